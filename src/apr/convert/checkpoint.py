"""The value every foreign checkpoint becomes: a config, and exactly the tensors that it needs.

Nothing is loaded when a source is opened. Each tensor is a promise (`load`) that is kept on request, so
that an import needs one tensor in fp32 at a time, whatever the size of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from apr.arch.config import TransformerConfig
from apr.arch.inventory import cover, inventory
from apr.base.files import sha256_file
from apr.convert.errors import TensorsDiffer
from apr.tokenizer.definition import TokenizerDefinition

TieRequest = Literal["auto", "yes", "no"]
Progress = Callable[[str, int, int], None]  # what is being done, how much of it is done, of how much


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTensor:
    """A tensor of a foreign checkpoint.

    `load` returns its values as float32 in `shape`, widened exactly or dequantised. `raw` returns the
    stored dtype and the stored values where they can be kept as they are: float32, float16, uint16 for
    BF16, uint8 blocks for Q4_K and Q6_K; it is None where the container has no such dtype.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    load: Callable[[], np.ndarray]
    raw: Callable[[], tuple[str, np.ndarray]] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file that went in: `revision` is the commit it was downloaded at, where that is known."""

    name: str
    sha256: str
    size_bytes: int
    revision: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TieDecision:
    """Whether embedding and head are one matrix, by which rule, and on which figures."""

    tied: bool
    rule: str
    figures: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSource:
    """A foreign checkpoint, judged: `tensors` is exactly the inventory of `config`, under its names."""

    location: str
    kind: Literal["gguf", "huggingface"]
    config: TransformerConfig
    tensors: Mapping[str, SourceTensor]
    tokenizer: TokenizerDefinition | None
    files: tuple[SourceFile, ...]
    tie: TieDecision
    license: str | None


def describe_file(path: Path, revision: str | None = None) -> SourceFile:
    """Hash a file that goes in.

    Raises:
        FileMissing, CannotRead: it is not there, or cannot be read.
    """
    return SourceFile(
        name=path.name, sha256=sha256_file(path), size_bytes=path.stat().st_size, revision=revision
    )


def require_cover(
    config: TransformerConfig,
    found: Mapping[str, tuple[int, ...]],
    source: str,
    spelling: Callable[[str], str] = str,
) -> None:
    """Refuse a source whose tensors are not exactly the config's, both ways.

    Args:
        config: what the tensors must be the inventory of.
        found: shape by name, in our names.
        source: where they came from, for messages.
        spelling: turns our name into the one that stands in the source, for messages.

    Raises:
        TensorsDiffer: naming every tensor that is missing, unexpected or of another shape.
    """
    coverage = cover(inventory(config), found)
    if coverage.is_exact:
        return
    raise TensorsDiffer(
        source=source,
        missing=tuple(map(spelling, coverage.missing)),
        unexpected=tuple(map(spelling, coverage.unexpected)),
        misshapen=tuple(
            _describe_shapes(spelling(name), expected, shape) for name, expected, shape in coverage.misshapen
        ),
    )


def _describe_shapes(name: str, expected: tuple[int, ...], found: tuple[int, ...]) -> str:
    told = f"{name}: {list(found)} instead of {list(expected)}"
    return told + ", transposed" if len(expected) == 2 and found == expected[::-1] else told
