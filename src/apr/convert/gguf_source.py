"""Open a GGUF file as a checkpoint source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from apr.arch.config import TransformerConfig
from apr.arch.errors import ConfigFieldMissing
from apr.arch.inventory import EMBEDDING, HEAD, inventory
from apr.convert.checkpoint import (
    CheckpointSource,
    Progress,
    SourceTensor,
    TieRequest,
    describe_file,
    require_cover,
)
from apr.convert.errors import DtypeUnsupported
from apr.convert.gguf_blocks import DEQUANTISED, dequantise
from apr.convert.gguf_config import read_config, require_family
from apr.convert.gguf_file import GgufFile
from apr.convert.gguf_names import ROPE_FACTORS, gguf_name, our_name, row_order
from apr.convert.gguf_tokenizer import definition_from_gguf
from apr.convert.ties import StoredMatrix, decide_tie
from apr.tokenizer.definition import TokenizerDefinition

_UNKNOWN = "?"  # before the name of a tensor that has none of ours, so that it cannot pass for one
_RAW = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "Q4_K": np.uint8, "Q6_K": np.uint8}


def open_gguf(
    path: Path, *, tie: TieRequest, read_tokenizer: bool, on_progress: Progress | None = None
) -> CheckpointSource:
    """Open a GGUF file: judge its config, its tensors and its tie, and load none of them.

    Raises:
        FileMissing, CannotRead, SourceUnreadable: no whole GGUF file is there.
        ArchitectureUnsupported, ConfigFieldMissing, ConfigValueBad, FeatureUnsupported, ConfigKeyUnjudged,
        RopeFactorsUnknown: the config is not one that the decoder computes.
        TensorsDiffer, DtypeUnsupported: the tensors are not those of the config, or cannot be dequantised.
        TieUndecided, TieImpossible, TensorNotFinite: see `decide_tie`.
    """
    report = on_progress or (lambda what, done, total: None)
    report("reading the fields", 0, 3)
    file = GgufFile(path)
    require_family(file.fields, str(path))  # before any tensor is looked at
    _require_dequantised(file)
    both = "output.weight" in file.tensors
    config = _read_config(file, tied=not both)
    found = {
        our_name(name) or _UNKNOWN + name: file.shape(name) for name in file.tensors if name != ROPE_FACTORS
    }
    require_cover(config, found, str(path), spelling=_their_name)
    report("comparing embedding and head" if both else "hashing", 1, 3)
    decision, head_stands_for_both = decide_tie(
        _stored(file, EMBEDDING), _stored(file, HEAD) if both else None, tie, str(path)
    )
    config = _read_config(file, tied=decision.tied)
    stored_as = {spec.name: spec.name for spec in inventory(config)}
    if head_stands_for_both:
        stored_as[EMBEDDING] = HEAD
    report("hashing", 2, 3)
    return CheckpointSource(
        location=str(path),
        kind="gguf",
        config=config,
        tensors={ours: _source_tensor(file, config, ours, stored) for ours, stored in stored_as.items()},
        tokenizer=_tokenizer(file) if read_tokenizer else None,
        files=(describe_file(path),),
        tie=decision,
        license=str(file.fields["general.license"]) if "general.license" in file.fields else None,
    )


def _their_name(name: str) -> str:
    return name.removeprefix(_UNKNOWN) if name.startswith(_UNKNOWN) else gguf_name(name)


def _read_config(file: GgufFile, tied: bool) -> TransformerConfig:
    rows = file.shape("token_embd.weight")[0] if "token_embd.weight" in file.tensors else None
    factors = None
    if ROPE_FACTORS in file.tensors:
        factors = _numbers(file, ROPE_FACTORS)()
    return read_config(file.fields, rows=rows, rope_factors=factors, tied=tied, source=str(file.path))


def _require_dequantised(file: GgufFile) -> None:
    for name in file.tensors:
        if file.dtype(name) not in DEQUANTISED:
            raise DtypeUnsupported(source=str(file.path), tensor=name, dtype=file.dtype(name))


def _stored(file: GgufFile, ours: str) -> StoredMatrix:
    theirs = gguf_name(ours)
    return StoredMatrix(data=file.tensors[theirs].data, dtype=file.dtype(theirs), shape=file.shape(theirs))


def _source_tensor(file: GgufFile, config: TransformerConfig, ours: str, stored: str) -> SourceTensor:
    theirs = gguf_name(stored)
    order = row_order(config, ours)
    dtype = file.dtype(theirs)
    return SourceTensor(
        name=ours,
        shape=file.shape(theirs),
        dtype=dtype,
        load=_numbers(file, theirs, order),
        raw=_bytes(file, theirs, order) if dtype in _RAW else None,
    )


def _numbers(file: GgufFile, theirs: str, order: np.ndarray | None = None) -> Callable[[], np.ndarray]:
    def load() -> np.ndarray:
        data = file.tensors[theirs].data
        # Rows move before they are dequantised: they are smaller then.
        data = data if order is None else data[order]
        return dequantise(data, file.dtype(theirs), file.shape(theirs))

    return load


def _bytes(file: GgufFile, theirs: str, order: np.ndarray | None) -> Callable[[], tuple[str, np.ndarray]]:
    dtype = file.dtype(theirs)

    def raw() -> tuple[str, np.ndarray]:
        data = file.tensors[theirs].data
        data = np.ascontiguousarray(data if order is None else data[order])
        return dtype, data.view(_RAW[dtype])

    return raw


def _tokenizer(file: GgufFile) -> TokenizerDefinition | None:
    return definition_from_gguf(file.fields) if "tokenizer.ggml.model" in file.fields else None


def read_gguf_tokenizer(path: Path, end_of_text: str | None = None) -> TokenizerDefinition:
    """Rebuild the tokenizer of a GGUF file, and nothing else of it.

    Args:
        path: the file.
        end_of_text: the token that ends a document, where the file does not say or says two.

    Raises:
        FileMissing, CannotRead, SourceUnreadable: no whole GGUF file is there.
        ConfigFieldMissing: the file holds no tokenizer.
        Those of `definition_from_gguf`.
    """
    file = GgufFile(path)
    if "tokenizer.ggml.model" not in file.fields:
        raise ConfigFieldMissing(source=str(path), fields="tokenizer.ggml.model")
    return definition_from_gguf(file.fields, end_of_text=end_of_text)
