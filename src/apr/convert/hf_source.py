"""Open a Hugging Face folder as a checkpoint source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from apr.arch.errors import ConfigValueBad
from apr.arch.inventory import EMBEDDING, HEAD, inventory
from apr.base.files import read_json
from apr.convert.checkpoint import (
    CheckpointSource,
    Progress,
    SourceFile,
    SourceTensor,
    TieDecision,
    TieRequest,
    describe_file,
    require_cover,
)
from apr.convert.errors import DtypeUnsupported, TieContradicted, TieImpossible
from apr.convert.hf_config import read_config
from apr.convert.rounding import widen
from apr.convert.safetensors_files import INDEX, StoredTensor, stored_tensors
from apr.tokenizer.definition import (
    SPECIAL_IDS_FILE,
    TOKENIZER_FILE,
    TokenizerDefinition,
    load_definition,
)

CONFIG = "config.json"
_CARD = "README.md"
# What `load_definition` reads of a folder: the special ids as we saved them, or else the published files.
_TOKENIZER_FILES = (
    TOKENIZER_FILE,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
)
_DTYPES = ("F32", "F16", "BF16")


def open_folder(
    folder: Path,
    *,
    tie: TieRequest,
    read_tokenizer: bool,
    revision: str | None = None,
    on_progress: Progress | None = None,
) -> CheckpointSource:
    """Open a folder with config.json and safetensors: judge all of it, and load nothing.

    Args:
        folder: as `save_pretrained` or a download leaves it.
        tie: what the caller says about the head; `auto` goes by the config and the tensors.
        read_tokenizer: read tokenizer.json where there is one.
        revision: the commit it was downloaded at.
        on_progress: told what is being done.

    Raises:
        ArchitectureUnsupported, ConfigFieldMissing, ConfigValueBad, FeatureUnsupported, ConfigKeyUnjudged:
            the config is not one that the decoder computes.
        SourceIncomplete, SourceAmbiguous, IndexContradicted, NameRepeated, SourceUnreadable: the files.
        TensorsDiffer, DtypeUnsupported: the tensors.
        TieContradicted, TieImpossible: the head.
    """
    report = on_progress or (lambda what, done, total: None)
    values = read_json(folder / CONFIG, kind="config.json")
    source = str(folder / CONFIG)
    # For what it refuses: an architecture is named before any tensor is looked at.
    read_config(values, tied=False, source=source)
    found = stored_tensors(folder)
    decision = _decide_tie(values, found, tie, str(folder))
    config = read_config(values, tied=decision.tied, source=source)
    if decision.tied:
        found.pop(HEAD, None)
    require_cover(config, {name: tensor.shape for name, tensor in found.items()}, str(folder))
    _require_dtypes(found, str(folder))
    definition = _tokenizer(folder) if read_tokenizer else None
    return CheckpointSource(
        location=str(folder),
        kind="huggingface",
        config=config,
        tensors={spec.name: _source_tensor(found[spec.name]) for spec in inventory(config)},
        tokenizer=definition,
        files=_describe(folder, found, definition, revision, report),
        tie=decision,
        license=_license(folder),
    )


def _decide_tie(
    values: Mapping[str, Any], found: Mapping[str, StoredTensor], request: TieRequest, source: str
) -> TieDecision:
    says = values.get("tie_word_embeddings")
    if says is not None and not isinstance(says, bool):
        raise ConfigValueBad(
            source=source, field="tie_word_embeddings", value=repr(says), limit="true or false"
        )
    figures = {"config": says, "head_stored": HEAD in found}
    if HEAD not in found or EMBEDDING not in found:
        return _decide_without_head(says, request, figures, source)
    if request != "auto":
        return TieDecision(tied=request == "yes", rule=f"--tie {request}", figures=figures)
    if says is False:
        return TieDecision(tied=False, rule="config.json says so", figures=figures)
    equal = _bits_equal(found[EMBEDDING], found[HEAD])
    figures["bit_equal"] = equal
    if says is None:
        # Training leaves no two matrices equal in every bit; a tied model that was saved twice has them so.
        rule = "config.json does not say; embedding and head are both stored and are "
        return TieDecision(tied=equal, rule=rule + ("bit-equal" if equal else "different"), figures=figures)
    if not equal:
        raise TieContradicted(source=source, embedding=EMBEDDING, head=HEAD)
    return TieDecision(
        tied=True, rule="config.json says so, and the stored head is bit-equal", figures=figures
    )


def _decide_without_head(
    says: bool | None, request: TieRequest, figures: dict[str, Any], source: str
) -> TieDecision:
    if request == "no":
        raise TieImpossible(source=source, stored=EMBEDDING)
    if request == "yes":
        return TieDecision(tied=True, rule="--tie yes", figures=figures)
    if says is None:
        return TieDecision(tied=True, rule="config.json does not say; no head is stored", figures=figures)
    # When it says false the head is missing, and the comparison with the inventory names it.
    return TieDecision(tied=says, rule="config.json says so", figures=figures)


def _bits_equal(left: StoredTensor, right: StoredTensor) -> bool:
    if (left.dtype, left.shape) != (right.dtype, right.shape) or left.dtype not in _DTYPES:
        return False
    return bool(np.array_equal(left.values().view(np.uint8), right.values().view(np.uint8)))


def _require_dtypes(found: Mapping[str, StoredTensor], source: str) -> None:
    for name, tensor in found.items():
        if tensor.dtype not in _DTYPES:
            raise DtypeUnsupported(source=source, tensor=name, dtype=tensor.dtype)


def _source_tensor(stored: StoredTensor) -> SourceTensor:
    return SourceTensor(
        name=stored.name,
        shape=stored.shape,
        dtype=stored.dtype,
        load=lambda: np.array(widen(stored.values(), stored.dtype), dtype=np.float32),
        raw=lambda: (stored.dtype, stored.values()),
    )


def _tokenizer(folder: Path) -> TokenizerDefinition | None:
    return load_definition(folder) if (folder / TOKENIZER_FILE).is_file() else None


def tokenizer_files(path: Path) -> tuple[Path, ...]:
    """The files that decide a tokenizer: those that are there of a folder's, or the file itself."""
    if not path.is_dir():
        return (path,)
    is_ours = (path / SPECIAL_IDS_FILE).is_file()
    names = (TOKENIZER_FILE, SPECIAL_IDS_FILE) if is_ours else _TOKENIZER_FILES
    return tuple(path / name for name in names if (path / name).is_file())


def _describe(
    folder: Path,
    found: Mapping[str, StoredTensor],
    definition: TokenizerDefinition | None,
    revision: str | None,
    report: Progress,
) -> tuple[SourceFile, ...]:
    paths = [folder / CONFIG, *sorted({tensor.path for tensor in found.values()})]
    paths += [folder / name for name in (INDEX, _CARD) if (folder / name).is_file()]
    paths += tokenizer_files(folder) if definition else ()
    described = []
    for done, path in enumerate(paths):
        report(f"hashing {path.name}", done, len(paths))
        described.append(describe_file(path, revision))
    return tuple(described)


def _license(folder: Path) -> str | None:
    """The license that the model card's front matter names, where there is a card."""
    card = folder / _CARD
    if not card.is_file():
        return None
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or lines[0].strip() != "---":
        return None
    for line in lines[1:]:
        if line.strip() == "---":
            return None
        if line.startswith("license:"):
            return line.removeprefix("license:").strip() or None
    return None
