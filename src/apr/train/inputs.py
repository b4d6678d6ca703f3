"""Everything a run reads, opened and checked before anything is allocated."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from apr.aprfile.metadata import ModelFacts, read_facts
from apr.aprfile.reader import AprFile, open_apr
from apr.arch.config import TransformerConfig, config_differences
from apr.arch.errors import ArchMismatch
from apr.arch.presets import find_config
from apr.base.errors import BadOption, FileMissing
from apr.base.files import canonical_json, sha256_bytes
from apr.data.shards import TokenDataset, open_dataset
from apr.data.windows import cut_windows
from apr.model.load import require_coverage
from apr.stepzero.reference import Reference, parse_reference
from apr.tokenizer.definition import TokenizerDefinition, load_definition, with_end_of_text
from apr.tokenizer.engine import TextTokenizer
from apr.train.errors import (
    NoTokenizer,
    NoValidation,
    TokenIdTooLarge,
    TokenizerMismatch,
    VocabularyMismatch,
)
from apr.train.plan import DEFAULT_ARCH
from apr.train.reporter import Reporter
from apr.train.spec import RunSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class InitFile:
    """The checkpoint of `--init`, open and checked."""

    file: AprFile
    facts: ModelFacts
    reference: Reference | None
    check_seconds: float  # what checking every digest took


class Inputs:
    """The open inputs of a run: checkpoint, tokenizer, shards. A context manager."""

    def __init__(self, spec: RunSpec, reporter: Reporter) -> None:
        """Open in the order of the checks: init, architecture, tokenizer, shards.

        Raises:
            AprError: whatever is wrong with any of them, named.
        """
        with ExitStack() as stack:
            self.init = _open_init(stack, spec.init, reporter) if spec.init else None
            self.config = _resolve_config(spec.arch, self.init)
            self.tokenizer = _find_tokenizer(spec.tokenizer, self.init)
            if self.tokenizer is None and self.init is not None and not spec.resume:
                raise NoTokenizer(source=str(self.init.file.path))
            self.tokenizer_size = self._check_vocabulary(spec)
            reporter.phase("checking the shards", 0, None)
            folder = _dataset_folder(spec)
            self.train = open_dataset(folder)
            self.validation = open_dataset(_validation_folder(spec, folder))
            for dataset in (self.train, self.validation):
                self._check_dataset(dataset)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def digests(self) -> dict[str, str | None]:
        """What went in, by role, as digests: no path, so that the same inputs give the same certificate."""
        return {
            "init": self.init.file.file_digest if self.init else None,
            "config": sha256_bytes(canonical_json(self.config.to_dict())),
            "tokenizer": self.tokenizer.sha256 if self.tokenizer else None,
            "train": self.train.dataset_digest,
            "validation": self.validation.dataset_digest,
        }

    def count_windows(self, seq_length: int) -> int:
        """Training windows; validation must fill one too.

        Raises:
            CorpusShorterThanWindow: a part of the dataset does not fill one window.
        """
        cut_windows(self.validation, seq_length)
        return len(cut_windows(self.train, seq_length))

    def _check_vocabulary(self, spec: RunSpec) -> int | None:
        """With a checkpoint the tokenizer may be smaller than the model; from scratch they must be equal."""
        if self.tokenizer is None:
            return None
        text = TextTokenizer(self.tokenizer)
        vocab_size = self.config.vocab_size
        name = str(spec.tokenizer or spec.init)
        if text.vocab_size > vocab_size or text.max_id >= vocab_size:
            size = max(text.vocab_size, text.max_id + 1)
            raise VocabularyMismatch(tokenizer=name, tokenizer_size=size, limit=f"{vocab_size:,} at most")
        if self.init is None and text.vocab_size != vocab_size:
            raise VocabularyMismatch(
                tokenizer=name, tokenizer_size=text.vocab_size, limit=f"exactly {vocab_size:,}"
            )
        return text.vocab_size

    def _check_dataset(self, dataset: TokenDataset) -> None:
        manifest, folder = dataset.manifest, str(dataset.folder)
        if self.tokenizer is not None and manifest.tokenizer_sha256 != self.tokenizer.sha256:
            raise TokenizerMismatch(
                dataset=folder, found=manifest.tokenizer_sha256[:12], expected=self.tokenizer.sha256[:12]
            )
        if self.tokenizer is None and manifest.vocab_size != self.config.vocab_size:
            raise VocabularyMismatch(
                tokenizer=f"of {folder}",
                tokenizer_size=manifest.vocab_size,
                limit=f"exactly {self.config.vocab_size:,}",
            )
        if manifest.max_token_id >= self.config.vocab_size:
            raise TokenIdTooLarge(dataset=folder, found=manifest.max_token_id, limit=self.config.vocab_size)


def _open_init(stack: ExitStack, path: Path, reporter: Reporter) -> InitFile:
    start = time.perf_counter()
    file = stack.enter_context(
        open_apr(path, "full", lambda done, total: reporter.phase("checking the digests", done, total))
    )
    check_seconds = time.perf_counter() - start
    facts = read_facts(file)
    require_coverage(facts.config, file)
    recorded: dict[str, Any] | None = facts.reference
    reference = parse_reference(recorded, str(path), facts.config.vocab_size) if recorded else None
    return InitFile(file=file, facts=facts, reference=reference, check_seconds=check_seconds)


def _resolve_config(arch: str | None, init: InitFile | None) -> TransformerConfig:
    if init is None:
        return find_config(arch or DEFAULT_ARCH)
    if arch is not None and (differences := config_differences(find_config(arch), init.facts.config)):
        listed = ", ".join(
            f"{name} {asked!r} there and {held!r} in the file" for name, asked, held in differences
        )
        raise ArchMismatch(name=arch, source=str(init.file.path), differences=listed)
    return init.facts.config


def _find_tokenizer(path: Path | None, init: InitFile | None) -> TokenizerDefinition | None:
    if path is not None:
        return read_tokenizer(path)
    return tokenizer_of(init.facts) if init else None


def read_tokenizer(path: Path, end_of_text: str | None = None) -> TokenizerDefinition:
    """Read a tokenizer from a folder, a tokenizer.json or an `.apr` file.

    Args:
        path: where it is.
        end_of_text: the token that ends a document, where the source does not say or says two.

    Raises:
        NoTokenizer: the `.apr` file holds none.
        AprError: whatever is wrong with the file.
    """
    if path.is_dir() or path.suffix == ".json":
        return load_definition(path, end_of_text=end_of_text)
    if not path.is_file():
        raise FileMissing(path=str(path), kind="tokenizer", made_by="apr tokenize import-hf")
    with open_apr(path, "structure") as file:
        definition = tokenizer_of(read_facts(file))
    if definition is None:
        raise NoTokenizer(source=str(path))
    return definition if end_of_text is None else with_end_of_text(definition, end_of_text)


def tokenizer_of(facts: ModelFacts) -> TokenizerDefinition | None:
    """The tokenizer inside a model file; None when it holds none."""
    if facts.tokenizer_json is None:
        return None
    return TokenizerDefinition.from_dict(facts.tokenizer or {}, facts.tokenizer_json)


def _dataset_folder(spec: RunSpec) -> Path:
    if spec.dataset is None:
        raise BadOption(option="--dataset", value="left out", limit="a folder of token shards")
    return spec.dataset


def _validation_folder(spec: RunSpec, dataset: Path) -> Path:
    folder = spec.val_shard or dataset / "val"
    if spec.val_shard is None and not folder.is_dir():
        raise NoValidation(dataset=str(dataset), expected=str(folder))
    return folder
