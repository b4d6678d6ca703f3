"""Where every tensor of a new file goes, before a byte of it is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from apr.aprfile.errors import TensorNotWritable
from apr.aprfile.index import TIES, TensorEntry, pack_entry, packed_bytes
from apr.aprfile.layout import (
    DTYPES,
    HAS_VOCAB,
    HEADER_BYTES,
    MAX_DIMS,
    MAX_NAME_BYTES,
    QUANTIZED,
    ROW_MAJOR,
    Header,
    align64,
    num_elements,
    pack_header,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSource:
    """A tensor to be written; `produce` is called once, when its turn comes.

    The array has exactly the stored bytes: fp32, fp16, BF16 as uint16 bits, Q4_K and Q6_K as uint8 of any
    shape.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    produce: Callable[[], np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The layout of a new file: its tensors in file order, its entries (aliases too) in index order."""

    owners: tuple[TensorEntry, ...]
    entries: tuple[TensorEntry, ...]
    data_offset: int
    end: int
    flags: int


def in_index_order(sources: Sequence[TensorSource], aliases: Mapping[str, str]) -> tuple[TensorSource, ...]:
    """Check the tensors of a new file and sort them by the bytes of their names.

    Raises:
        TensorNotWritable: a name, dtype, shape or alias that readers would refuse.
    """
    for source in sources:
        _check_source(source)
    ordered = tuple(sorted(sources, key=lambda source: source.name.encode()))
    for before, source in pairwise(ordered):
        if before.name == source.name:
            raise TensorNotWritable(tensor=source.name, field="the name", value="of another", limit="its own")
    names = {source.name for source in sources}
    for alias, target in aliases.items():
        # Readers take no other sharing, since it could not be told from an overlap.
        if TIES.get(alias) != target or target not in names or alias in names:
            raise TensorNotWritable(
                tensor=alias, field="the alias target", value=target, limit="the embedding of a tied head"
            )
    return ordered


def _check_source(source: TensorSource) -> None:
    def demand(field: str, value: object, holds: bool, limit: str) -> None:
        if not holds:
            raise TensorNotWritable(tensor=source.name, field=field, value=str(value), limit=limit)

    length = len(source.name.encode(errors="replace"))
    demand("a name of", f"{length} bytes", 1 <= length <= MAX_NAME_BYTES, f"from 1 to {MAX_NAME_BYTES}")
    demand("the name", ascii(source.name), _is_text(source.name), "UTF-8")
    written = [dtype.name for dtype in DTYPES.values() if dtype.is_written]
    demand("the dtype", source.dtype, source.dtype in written, f"one of {', '.join(written)}")
    demand("dimensions:", len(source.shape), len(source.shape) <= MAX_DIMS, f"at most {MAX_DIMS}")
    demand("the shape", source.shape, all(size >= 1 for size in source.shape), "of positive sizes")
    block = DTYPES[source.dtype].block_elements
    # Readers disagree on rows that are no whole blocks, so none are written.
    is_whole = block == 1 or (len(source.shape) > 0 and source.shape[-1] % block == 0)
    demand("the shape", source.shape, is_whole, f"of rows in multiples of {block}")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def place(
    sources: Sequence[TensorSource], aliases: Mapping[str, str], metadata_size: int, *, has_vocab: bool
) -> Placement:
    """Give every tensor its offset.

    Args:
        sources: checked, in index order.
        aliases: {head: embedding}.
        metadata_size: bytes of the encoded metadata.
        has_vocab: whether the metadata holds a vocabulary.
    """
    relative = _with_aliases(_relative(sources), aliases)
    index_size = sum(packed_bytes(entry) for entry in relative)
    data_offset = align64(HEADER_BYTES + metadata_size) + align64(index_size)
    entries = tuple(replace(entry, offset=data_offset + entry.offset) for entry in relative)
    owners = tuple(entry for entry in entries if entry.name not in aliases)
    is_quantized = any(DTYPES[entry.dtype].is_packed for entry in owners)
    return Placement(
        owners=owners,
        entries=entries,
        data_offset=data_offset,
        end=align64(owners[-1].end) if owners else data_offset,
        flags=ROW_MAJOR | (QUANTIZED if is_quantized else 0) | (HAS_VOCAB if has_vocab else 0),
    )


def _relative(sources: Sequence[TensorSource]) -> list[TensorEntry]:
    entries, at = [], 0
    for source in sources:
        size = DTYPES[source.dtype].size_bytes(num_elements(source.shape))
        shape = tuple(int(dim) for dim in source.shape)
        entries.append(
            TensorEntry(name=source.name, dtype=source.dtype, shape=shape, offset=at, size_bytes=size)
        )
        at += align64(size)
    return entries


def _with_aliases(entries: Sequence[TensorEntry], aliases: Mapping[str, str]) -> list[TensorEntry]:
    named = {entry.name: entry for entry in entries}
    twins = [replace(named[target], name=alias) for alias, target in aliases.items()]
    return sorted([*entries, *twins], key=lambda entry: entry.name.encode())


def pack_head(metadata: bytes, placement: Placement) -> bytes:
    """Encode everything before the data: header, metadata, index, each padded with zeros."""
    index_offset = align64(HEADER_BYTES + len(metadata))
    header = Header(
        flags=placement.flags,
        tensor_count=len(placement.entries),
        metadata_size=len(metadata),
        index_offset=index_offset,
        data_offset=placement.data_offset,
    )
    head = (pack_header(header) + metadata).ljust(index_offset, b"\0")
    index = b"".join(pack_entry(entry, placement.data_offset) for entry in placement.entries)
    return (head + index).ljust(placement.data_offset, b"\0")
