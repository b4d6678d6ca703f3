"""The bytes of an .apr file: header, flags, dtypes.

Every number read from a file is a Python int and is compared with the file's real length before anything is
sliced or allocated, so a crafted header can neither overflow nor ask for memory that the file does not have.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Literal

from apr.aprfile.errors import FileTruncated, FlagUnsupported, HeaderChecksumWrong, HeaderFieldBad

Dialect = Literal["A", "E", "F"]

ALIGNMENT = 64
HEADER_BYTES = 64
FOOTER_BYTES = 4
MAX_METADATA_BYTES = 128 << 20  # the largest tokenizer of the field, stored twice, is 60 MB
MAX_TENSORS = 1 << 18  # three times the largest mixture of experts
MAX_NAME_BYTES = 256
MAX_DIMS = 8
MAX_ELEMENTS = 1 << 48

ROW_MAJOR = 0x0400
QUANTIZED = 0x0020
HAS_VOCAB = 0x0200
# Flags under which the bytes are not plain tensors of this one file. SIGNED is here because nothing defines
# what was signed: a signature that nobody checks must not look like one that held.
_REFUSED = {
    0x0001: "LZ4",
    0x0002: "ZSTD",
    0x0004: "ENCRYPTED",
    0x0008: "SIGNED",
    0x0010: "SHARDED",
    0x0800: "LAYOUT_COLUMN_MAJOR",
    0x1000: "unknown bit 12",
    0x2000: "unknown bit 13",
    0x4000: "unknown bit 14",
    0x8000: "unknown bit 15",
}

_HEADER = struct.Struct("<4sBBHIQIQQI20s")


def align64(size: int) -> int:
    """The next multiple of 64 bytes."""
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Dtype:
    """How a tensor's elements are stored, in blocks; `numpy` is the type its bytes are shown as."""

    name: str
    code: int
    block_elements: int
    block_bytes: int
    numpy: str
    extra_bytes: int = 0
    is_written: bool = False

    def size_bytes(self, num_elements: int) -> int:
        """Bytes for that many elements stored one after another."""
        return -(-num_elements // self.block_elements) * self.block_bytes + self.extra_bytes

    @property
    def is_packed(self) -> bool:
        """Whether several elements share a block, so that the bytes have no element type of their own."""
        return self.block_elements > 1 or self.extra_bytes > 0


def _dtype(
    name: str, code: int, elements: int, size: int, shown: str, extra: int = 0, *, ours: bool = False
) -> Dtype:
    return Dtype(
        name=name,
        code=code,
        block_elements=elements,
        block_bytes=size,
        numpy=shown,
        extra_bytes=extra,
        is_written=ours,
    )


_ALL = (
    _dtype("F32", 0, 1, 4, "<f4", ours=True),
    _dtype("F16", 1, 1, 2, "<f2", ours=True),
    _dtype("BF16", 30, 1, 2, "<u2", ours=True),  # numpy has no bfloat16; its bits are shown
    _dtype("F64", 3, 1, 8, "<f8"),
    _dtype("I32", 4, 1, 4, "<i4"),
    _dtype("I64", 5, 1, 8, "<i8"),
    _dtype("I8", 6, 1, 1, "i1"),
    _dtype("U8", 7, 1, 1, "u1"),
    _dtype("Q4_K", 12, 256, 144, "u1", ours=True),
    _dtype("Q6_K", 14, 256, 210, "u1", ours=True),
    _dtype("AprQ4", 128, 32, 18, "u1"),
    _dtype("AprQ8", 129, 1, 1, "u1", 4),
)
DTYPES = {dtype.name: dtype for dtype in _ALL}
# 2, 8 and 9 are what older writers used. They and 3, 6, 7 collide with GGML's codes, which have other sizes,
# so the size check that follows tells them apart.
CODES = {dtype.code: dtype for dtype in _ALL} | {2: DTYPES["BF16"], 8: DTYPES["AprQ4"], 9: DTYPES["AprQ8"]}


def num_elements(shape: tuple[int, ...]) -> int:
    """Elements of a tensor of that shape; 1 for a scalar."""
    product = 1
    for size in shape:
        product *= size
    return product


def stored_sizes(dtype: Dtype, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes in bytes that a tensor may have: stored flat, and for K-quants also with every row padded.

    Both encodings of a K-quant exist in the field when the last dimension is no multiple of the block.
    """
    flat = dtype.size_bytes(num_elements(shape))
    if dtype.block_elements != 256 or len(shape) < 2:
        return (flat,)
    padded = num_elements(shape[:-1]) * dtype.size_bytes(shape[-1])
    return (flat,) if padded == flat else (flat, padded)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first 64 bytes; offsets are from the start of the file."""

    flags: int
    tensor_count: int
    metadata_size: int
    index_offset: int
    data_offset: int


def pack_header(header: Header) -> bytes:
    """Encode a header with its checksum; returns 64 bytes."""

    def pack(checksum: int) -> bytes:
        return _HEADER.pack(
            b"APR\0",
            2,
            0,
            header.flags,
            header.tensor_count,
            HEADER_BYTES,
            header.metadata_size,
            header.index_offset,
            header.data_offset,
            checksum,
            bytes(20),
        )

    return pack(header_checksum(pack(0)))


def header_checksum(raw: bytes) -> int:
    """CRC-32 of a header, its own field left out."""
    return zlib.crc32(raw[44:HEADER_BYTES], zlib.crc32(raw[:40]))


def parse_header(raw: bytes, file_bytes: int, path: str) -> Header:
    """Read and check a header of a file whose magic and version were recognised.

    Raises:
        HeaderChecksumWrong, FlagUnsupported, HeaderFieldBad, FileTruncated.
    """
    _, _, _, flags, count, metadata_at, metadata_size, index_at, data_at, checksum, _ = _HEADER.unpack(raw)
    if checksum != header_checksum(raw):
        raise HeaderChecksumWrong(path=path, expected=f"{checksum:08x}", found=f"{header_checksum(raw):08x}")
    for bit, flag in _REFUSED.items():
        if flags & bit:
            raise FlagUnsupported(path=path, flag=flag, bits=f"{bit:04x}")

    def demand(field: str, value: int, holds: bool, limit: str) -> None:
        if not holds:
            raise HeaderFieldBad(path=path, field=field, value=value, limit=limit)

    demand("tensor_count", count, count <= MAX_TENSORS, f"at most {MAX_TENSORS:,}")
    demand("metadata_offset", metadata_at, metadata_at == HEADER_BYTES, str(HEADER_BYTES))
    demand(
        "metadata_size", metadata_size, metadata_size <= MAX_METADATA_BYTES, f"at most {MAX_METADATA_BYTES:,}"
    )
    expected = align64(HEADER_BYTES + metadata_size)
    demand("tensor_index_offset", index_at, index_at == expected, f"{expected:,}, where the metadata ends")
    aligned = data_at >= index_at and data_at % ALIGNMENT == 0
    demand("data_offset", data_at, aligned, "a multiple of 64 behind the index")
    for part, end in (("metadata", index_at), ("tensor index", data_at)):
        if end > file_bytes:
            raise FileTruncated(path=path, part=part, size_bytes=file_bytes, required_bytes=end)
    return Header(
        flags=flags,
        tensor_count=count,
        metadata_size=metadata_size,
        index_offset=index_at,
        data_offset=data_at,
    )
