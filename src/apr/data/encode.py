"""Text to token shards: read, split, encode, check, write."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from apr.base.errors import BadOption, CannotWrite, Interrupted
from apr.data.audit import EncodingAudit, checked_ids, id_bound
from apr.data.corpus import CorpusDigest, CorpusReader, Document, OnBad, ReadCounts, read_corpus
from apr.data.errors import CorpusEmpty, EndOfTextMissing, SplitEmpty
from apr.data.manifest import (
    COMPLETE,
    EOS_POLICIES,
    FORMAT_VERSION,
    PRODUCER_VERSION,
    Manifest,
    SplitRecord,
)
from apr.data.part import Part
from apr.data.split import SPLIT_RULE, check_fraction, is_validation
from apr.data.writer import discard_unfinished, remove_dataset, require_free
from apr.tokenizer.definition import TokenizerDefinition
from apr.tokenizer.engine import Tokenizer

VALIDATION_FOLDER = "val"
_BATCH_DOCUMENTS = 1024
_BATCH_CHARACTERS = 4 << 20  # bounds memory: ids take some ten times their text as Python integers

EosPolicy = Literal["after", "between", "none"]
OnProgress = Callable[[int, int | None, int], None]  # bytes done, bytes in all if known, tokens so far


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeOptions:
    """How a corpus is encoded."""

    eos_policy: EosPolicy = (
        "after"  # where the end-of-text id goes; after, so that the last document ends too
    )
    shard_tokens: int = 10_000_000  # 40 MB: few files, and one is hashed in a blink
    val_fraction: float = 0.02  # of the documents
    seed: int = 42  # of the split
    glob: str = "**/*"
    content_field: str = "content"
    on_bad: OnBad = "fail"
    seq_length_hint: int | None = None  # recorded for whoever trains on it; changes nothing here


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeResult:
    """What was written, and what was left out."""

    train: Manifest
    validation: Manifest | None  # None when val_fraction is 0
    counts: ReadCounts
    num_round_trips: int  # documents that were decoded back and compared
    num_unknown: int | None  # unknown tokens; None when the tokenizer has no unknown token
    elapsed_s: float

    @property
    def unknown_fraction(self) -> float | None:
        """Share of unknown tokens; None when the tokenizer has no unknown token."""
        parts = [self.train, *([self.validation] if self.validation else [])]
        return (
            None if self.num_unknown is None else self.num_unknown / sum(part.total_tokens for part in parts)
        )


def encode_corpus(
    paths: Sequence[Path],
    tokenizer: Tokenizer,
    out: Path,
    *,
    options: EncodeOptions,
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> EncodeResult:
    """Encode a corpus into the dataset folder `out`, its held-out documents into `out/val`.

    Both folders say "in progress" until everything is written. On any error what was written is removed; after a
    kill they keep saying so, every reader refuses them, and the next run replaces them.

    Args:
        paths: folders and files, see `apr.data.corpus.read_corpus`.
        tokenizer: encodes a batch of documents at once, on all cores.
        out: must be new, empty or an unfinished dataset.
        options: how.
        force: replace whatever dataset `out` holds.
        on_progress: called after every batch.

    Raises:
        BadOption, EndOfTextMissing, OutputExists, CorpusMissing, GlobMatchesNothing: before `out` is touched.
        CorpusEmpty, SplitEmpty, RoundTripBroken, UnknownTokens, TokenIdTooLarge, CannotWrite, Interrupted,
        and what reading the corpus raises: nothing of the dataset is left.
    """
    _check_options(options)
    eos_token_id = _end_of_text(tokenizer, options.eos_policy)
    reader = read_corpus(paths, glob=options.glob, content_field=options.content_field, on_bad=options.on_bad)
    _require_apart(out, reader)
    require_free(out, force=force)
    try:
        return _Encoding(reader, tokenizer, options, eos_token_id).run(out, on_progress)
    except BaseException as error:
        with suppress(CannotWrite):  # marked in progress is as good, and the error itself must be heard
            discard_unfinished(out, out / VALIDATION_FOLDER)
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(signal="Ctrl-C", kept="no shard was kept; run it again") from error
        raise


class _Encoding:
    """One run of `encode_corpus`: what its batches share."""

    def __init__(
        self, reader: CorpusReader, tokenizer: Tokenizer, options: EncodeOptions, eos_token_id: int | None
    ) -> None:
        self._reader = reader
        self._tokenizer = tokenizer
        self._options = options
        self._eos_token_id = eos_token_id
        self._audit = EncodingAudit(tokenizer)
        self._corpus = CorpusDigest()
        self._started_s = time.monotonic()

    def run(self, out: Path, on_progress: OnProgress | None) -> EncodeResult:
        with ExitStack() as stack:
            train = stack.enter_context(self._part(out))
            validation: Part | None = None
            remove_dataset(out / VALIDATION_FOLDER)
            if self._options.val_fraction:
                validation = stack.enter_context(self._part(out / VALIDATION_FOLDER))
            for batch in _batches(self._reader):
                self._add_batch(batch, train, validation)
                if on_progress is not None:
                    counts = self._reader.counts
                    on_progress(counts.bytes_done, self._reader.bytes_total, self._audit.num_tokens)
            self._judge(train, validation)
            # The training folder holds the other, so it is sealed last: complete there means complete.
            held_out = None if validation is None else self._seal(validation, "validation")
            return self._result(self._seal(train, "train"), held_out)

    def _part(self, folder: Path) -> Part:
        return Part(
            folder,
            shard_tokens=self._options.shard_tokens,
            tokenizer_sha256=self._tokenizer.definition.sha256,
            eos_policy=self._options.eos_policy,
            eos_token_id=self._eos_token_id,
        )

    def _add_batch(self, batch: list[Document], train: Part, validation: Part | None) -> None:
        encoded = self._tokenizer.encode_batch([document.text for document in batch])
        for document, ids in zip(batch, encoded, strict=True):
            checked = self._audit.check(document, ids)
            num_bytes = self._corpus.add(document.text)
            is_held_out = is_validation(document.text, self._options.seed, self._options.val_fraction)
            part = validation if validation is not None and is_held_out else train
            part.add(checked, num_bytes)

    def _judge(self, train: Part, validation: Part | None) -> None:
        counts = self._reader.counts
        if not self._audit.num_tokens:
            raise CorpusEmpty(
                num_files=counts.num_files, num_empty=counts.num_empty, num_skipped=counts.num_skipped
            )
        self._audit.finish()
        if not train.num_tokens or (validation is not None and not validation.num_tokens):
            raise SplitEmpty(
                fraction=self._options.val_fraction,
                num_train=train.num_documents,
                num_validation=0 if validation is None else validation.num_documents,
            )

    def _seal(self, part: Part, name: str) -> Manifest:
        options, counts, definition = self._options, self._reader.counts, self._tokenizer.definition
        return part.seal(
            format_version=FORMAT_VERSION,
            status=COMPLETE,
            producer_version=PRODUCER_VERSION,
            tokenizer_sha256=definition.sha256,
            normalization=_normalization(definition),
            vocab_size=id_bound(self._tokenizer),
            eos_policy=options.eos_policy,
            eos_token_id=self._eos_token_id,
            corpus_sha256=self._corpus.hexdigest(),
            bad=dict(counts.bad),
            empty_documents=counts.num_empty,
            split=SplitRecord(
                rule=SPLIT_RULE, seed=options.seed, fraction=float(options.val_fraction), part=name
            ),
            seq_length_hint=options.seq_length_hint,
            elapsed_s=round(time.monotonic() - self._started_s, 3),
        )

    def _result(self, train: Manifest, validation: Manifest | None) -> EncodeResult:
        return EncodeResult(
            train=train,
            validation=validation,
            counts=self._reader.counts,
            num_round_trips=self._audit.num_round_trips,
            num_unknown=None if self._tokenizer.unknown_id is None else self._audit.num_unknown,
            elapsed_s=time.monotonic() - self._started_s,
        )


def _batches(reader: CorpusReader) -> Iterator[list[Document]]:
    batch: list[Document] = []
    characters = 0
    for document in reader:
        if batch and characters + len(document.text) > _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
        batch.append(document)
        characters += len(document.text)
        if len(batch) == _BATCH_DOCUMENTS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _check_options(options: EncodeOptions) -> None:
    check_fraction(options.val_fraction)
    if options.eos_policy not in EOS_POLICIES:
        raise BadOption(option="--eos", value=options.eos_policy, limit=", ".join(EOS_POLICIES))
    if options.shard_tokens < 1:
        raise BadOption(option="--shard-tokens", value=str(options.shard_tokens), limit="at least 1")
    if options.seq_length_hint is not None and options.seq_length_hint < 1:
        raise BadOption(option="seq_length_hint", value=str(options.seq_length_hint), limit="at least 1")


def _end_of_text(tokenizer: Tokenizer, policy: str) -> int | None:
    if policy == "none":
        return None
    token_id = tokenizer.definition.end_of_text_id
    if token_id is None:
        raise EndOfTextMissing(policy=policy)
    checked_ids([token_id], id_bound(tokenizer), "the end-of-text token")
    return token_id


def _require_apart(out: Path, reader: CorpusReader) -> None:
    # Shards must neither be read as text by the next run nor stand where --force would remove a corpus.
    folder = os.path.realpath(out)  # unlike Path.resolve it takes a loop of links as it is
    for file in reader.files:
        if Path(os.path.realpath(file.path)).is_relative_to(folder):
            raise BadOption(
                option="--output", value=str(out), limit=f"free of corpus files such as {file.path}"
            )


def _normalization(definition: TokenizerDefinition) -> str:
    """What the tokenizer does to text before it splits it, in a word; its sha256 pins the rest."""
    normalizer = json.loads(definition.json_text).get("normalizer")
    return "none" if normalizer is None else str(normalizer["type"])
