"""The tensor index: what is stored where."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from apr.aprfile.errors import (
    FileTruncated,
    HeaderFieldBad,
    IndexEntryBad,
    IndexUnsorted,
    TensorDuplicate,
    TensorOutOfBounds,
    TensorSizeWrong,
    TensorsOverlap,
    TieBroken,
    TrailingBytes,
)
from apr.aprfile.layout import (
    ALIGNMENT,
    CODES,
    DTYPES,
    FOOTER_BYTES,
    MAX_DIMS,
    MAX_ELEMENTS,
    MAX_NAME_BYTES,
    Header,
    align64,
    num_elements,
    stored_sizes,
)

# A head may share the embedding's bytes; no other tensor may share any.
TIES = {"lm_head.weight": "model.embed_tokens.weight", "output.weight": "token_embd.weight"}
_PLACE = struct.Struct("<QQ")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEntry:
    """A stored tensor: `shape` outermost first, `offset` from the start of the file, size unpadded."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int

    @property
    def end(self) -> int:
        """The first byte behind the tensor."""
        return self.offset + self.size_bytes


def pack_entry(entry: TensorEntry, data_offset: int) -> bytes:
    """Encode an entry; its offset becomes relative to the data."""
    name = entry.name.encode()
    shape = struct.pack(f"<{len(entry.shape)}Q", *entry.shape)
    fixed = bytes((DTYPES[entry.dtype].code, len(entry.shape)))
    place = _PLACE.pack(entry.offset - data_offset, entry.size_bytes)
    return struct.pack("<H", len(name)) + name + fixed + shape + place


def packed_bytes(entry: TensorEntry) -> int:
    """Bytes that an entry takes in the index."""
    return 2 + len(entry.name.encode()) + 2 + 8 * len(entry.shape) + _PLACE.size


def parse_index(raw: memoryview, header: Header, path: str) -> tuple[TensorEntry, ...]:
    """Read and check the index; nothing is said yet about where the file ends.

    Args:
        raw: the bytes from the index's offset to the data's.
        header: the checked header.
        path: for messages.

    Raises:
        IndexEntryBad, IndexUnsorted, TensorDuplicate, TensorSizeWrong: an entry cannot be true.
        HeaderFieldBad: the entries do not end where the data begins.
    """
    entries: list[TensorEntry] = []
    at, previous = 0, b""
    for position in range(header.tensor_count):
        entry, name, at = _Cursor(raw, position, path).entry(at, header.data_offset)
        if position and name <= previous:
            _refuse_order(name, previous, path)
        entries.append(entry)
        previous = name
    expected = align64(header.index_offset + at)
    if expected != header.data_offset:
        limit = f"{expected:,}, where the index ends"
        raise HeaderFieldBad(path=path, field="data_offset", value=header.data_offset, limit=limit)
    return tuple(entries)


def _refuse_order(name: bytes, previous: bytes, path: str) -> None:
    if name == previous:
        raise TensorDuplicate(path=path, tensor=name.decode())
    raise IndexUnsorted(path=path, tensor=name.decode(), previous=previous.decode())


class _Cursor:
    """Reads one entry; every slice is checked against the index's end before it is taken."""

    def __init__(self, raw: memoryview, position: int, path: str) -> None:
        self.raw, self.position, self.path = raw, position, path
        self.name = "?"

    def bad(self, field: str, value: object, limit: str) -> IndexEntryBad:
        return IndexEntryBad(
            path=self.path,
            position=self.position,
            tensor=self.name,
            field=field,
            value=str(value),
            limit=limit,
        )

    def take(self, at: int, size: int) -> bytes:
        if at + size > len(self.raw):
            raise self.bad("its end at index byte", at + size, f"within the index of {len(self.raw):,} bytes")
        return bytes(self.raw[at : at + size])

    def entry(self, at: int, data_offset: int) -> tuple[TensorEntry, bytes, int]:
        length = int.from_bytes(self.take(at, 2), "little")
        if not 1 <= length <= MAX_NAME_BYTES:
            raise self.bad("a name length of", length, f"from 1 to {MAX_NAME_BYTES}")
        name = self.take(at + 2, length)
        self.name = self._decoded(name)
        at += 2 + length
        code, ndim = self.take(at, 2)
        if ndim > MAX_DIMS:
            raise self.bad("dimensions:", ndim, f"at most {MAX_DIMS}")
        shape = struct.unpack(f"<{ndim}Q", self.take(at + 2, 8 * ndim))
        at += 2 + 8 * ndim
        offset, size = _PLACE.unpack(self.take(at, _PLACE.size))
        self._check(code, shape, offset, size)
        entry = TensorEntry(
            name=self.name, dtype=CODES[code].name, shape=shape, offset=data_offset + offset, size_bytes=size
        )
        return entry, name, at + _PLACE.size

    def _decoded(self, name: bytes) -> str:
        try:
            return name.decode()
        except UnicodeDecodeError:
            raise self.bad("the name", name, "UTF-8") from None

    def _check(self, code: int, shape: tuple[int, ...], offset: int, size: int) -> None:
        if code not in CODES:
            known = ", ".join(str(code) for code in sorted(CODES))
            raise self.bad("the dtype code", code, f"one of {known}")
        if num_elements(tuple(max(1, dim) for dim in shape)) > MAX_ELEMENTS:
            raise self.bad("the shape", list(shape), f"of at most {MAX_ELEMENTS:,} elements")
        if offset % ALIGNMENT:
            raise self.bad("the offset", offset, f"a multiple of {ALIGNMENT}")
        sizes = stored_sizes(CODES[code], shape)
        is_placeholder = size == 0 and self.name in TIES
        if size not in sizes and not is_placeholder:
            raise TensorSizeWrong(
                path=self.path,
                tensor=self.name,
                dtype=CODES[code].name,
                shape=str(list(shape)),
                expected=" or ".join(f"{value:,}" for value in sizes),
                found=size,
            )


def resolve_ties(entries: Sequence[TensorEntry], path: str) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    """Give a head that has no bytes of its own the embedding's; returns the entries and {head: embedding}.

    Raises:
        TieBroken: the embedding is not there, or has another shape or dtype.
    """
    named = {entry.name: entry for entry in entries}
    aliases = {}
    for head, target in TIES.items():
        twin, own = named.get(head), named.get(target)
        if twin is None or not _is_twin(twin, own):
            continue
        is_placeholder = twin.size_bytes == 0  # importers write it as F32 whatever the embedding is
        if own is None or own.shape != twin.shape or not (is_placeholder or own.dtype == twin.dtype):
            raise TieBroken(
                path=path, head=head, target=target, expected=_described(twin), found=_described(own)
            )
        named[head] = replace(own, name=head)
        aliases[head] = target
    return named, aliases


def _is_twin(twin: TensorEntry, own: TensorEntry | None) -> bool:
    if twin.size_bytes == 0:
        return num_elements(twin.shape) > 0
    return own is not None and (twin.offset, twin.size_bytes) == (own.offset, own.size_bytes)


def _described(entry: TensorEntry | None) -> str:
    return "not there" if entry is None else f"{entry.dtype} {list(entry.shape)}"


def in_file_order(entries: Sequence[TensorEntry]) -> Iterator[TensorEntry]:
    """Entries that own bytes, as they lie in the file (a streaming writer's are not in index order)."""
    return iter(sorted((entry for entry in entries if entry.size_bytes), key=lambda entry: entry.offset))


def check_extent(
    entries: Sequence[TensorEntry], data_offset: int, file_bytes: int, path: str
) -> tuple[int, bool]:
    """Check that the tensors lie in the file, apart from each other, and that the file ends with them.

    Args:
        entries: those that own their bytes (no aliases).
        data_offset, file_bytes: where the data begins and the file ends.
        path: for messages.

    Returns:
        Where the contents end, and whether a footer follows.

    Raises:
        TensorOutOfBounds, TensorsOverlap, FileTruncated, TrailingBytes.
    """
    previous: TensorEntry | None = None
    for entry in in_file_order(entries):
        if entry.end > file_bytes:
            raise TensorOutOfBounds(path=path, tensor=entry.name, end_bytes=entry.end, size_bytes=file_bytes)
        if previous is not None and entry.offset < previous.end:
            raise TensorsOverlap(path=path, first=previous.name, second=entry.name)
        previous = entry
    required = max(data_offset, align64(previous.end)) if previous else data_offset
    surplus = file_bytes - required
    if surplus in (0, FOOTER_BYTES):
        return required, surplus == FOOTER_BYTES
    if surplus > FOOTER_BYTES:
        raise TrailingBytes(path=path, size_bytes=file_bytes, required_bytes=required)
    part, needed = ("padding", required) if surplus < 0 else ("footer", required + FOOTER_BYTES)
    raise FileTruncated(path=path, part=part, size_bytes=file_bytes, required_bytes=needed)
