"""Faults of an `.apr` file as bytes: what disks, copies and half-finished downloads do."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

from apr.aprfile.layout import HEADER_BYTES
from apr.stepzero.faults.aprfiles import flip_bit, header_of, overwrite, place_of, repack_header
from apr.stepzero.faults.fault import Fault


def _fault(
    name: str,
    says: str,
    edit: Callable[[Path], None],
    imitates: tuple[str, ...] = ("S-86",),
    quick: bool = False,
) -> Fault:
    return Fault(
        id=f"container.{name}", imitates=imitates, place="container", gate="file.container", says=says, edit=edit,
        quick=quick,
    )  # fmt: skip


def _cut(path: Path, keep: Callable[[int], int]) -> None:
    size = path.stat().st_size
    with path.open("r+b") as stream:
        stream.truncate(keep(size))


def _append(path: Path, content: bytes) -> None:
    with path.open("ab") as stream:
        stream.write(content)


def _flip_in(path: Path, suffix: str, *, byte: int, bit: int) -> None:
    """Flip a bit of a byte within the middle element of a tensor; 4-byte elements have sign and exponent in byte 3."""
    offset, size = place_of(path, suffix)
    flip_bit(path, offset + size // 8 * 4 + byte, bit)


def _zero(path: Path, suffix: str) -> None:
    offset, size = place_of(path, suffix)
    overwrite(path, offset, bytes(size))


def _exchange(path: Path, first: str, second: str) -> None:
    (a, size), (b, _) = place_of(path, first), place_of(path, second)
    with path.open("r+b") as stream:
        stream.seek(a)
        left = stream.read(size)
        stream.seek(b)
        right = stream.read(size)
        stream.seek(a)
        stream.write(right)
        stream.seek(b)
        stream.write(left)


def _footer(path: Path) -> None:
    flip_bit(path, path.stat().st_size - 1)


CONTAINER_FAULTS: tuple[Fault, ...] = (
    _fault("other-magic", "the first bytes were those of a GGUF file", lambda p: overwrite(p, 0, b"GGUF"), ("S-15",), True),
    _fault("empty", "the file was empty", lambda p: _cut(p, lambda size: 0), ("S-86",), True),
    _fault("fragment", "only the first kilobyte had been copied", lambda p: _cut(p, lambda size: 1024), ("S-86",), True),
    _fault("cut-short", "the last 5 % of the file were missing", lambda p: _cut(p, lambda size: size * 95 // 100), ("S-86",)),
    _fault("no-footer", "the last four bytes were missing", lambda p: _cut(p, lambda size: size - 4), ("S-86",)),
    _fault("longer", "something had been appended", lambda p: _append(p, b"\0" * 64), ("S-86",)),
    _fault("header-bit", "a bit of the header was flipped", lambda p: flip_bit(p, 9), ("S-86",), True),
    _fault("metadata-bit", "a bit of the metadata was flipped", lambda p: flip_bit(p, HEADER_BYTES + 40, 1), ("S-86",)),
    _fault("index-bit", "a bit of the tensor index was flipped", lambda p: flip_bit(p, header_of(p).index_offset + 12, 2),
           ("S-86",)),
    _fault("newer-version", "the header named a later version of the layout",
           lambda p: repack_header(p, lambda head: head.__setitem__(slice(4, 5), b"\3")), ("S-15",)),
    _fault("compressed-flag", "the header said that the data are compressed",
           lambda p: repack_header(p, lambda head: head.__setitem__(slice(6, 8), struct.pack("<H", 0x0401))), ("S-15",)),
    _fault("mantissa-bit", "the lowest bit of one weight was flipped",
           lambda p: _flip_in(p, "mlp.up_proj.weight", byte=0, bit=0), ("S-127",), True),
    _fault("exponent-bit", "an exponent bit of one weight was flipped",
           lambda p: _flip_in(p, "mlp.down_proj.weight", byte=3, bit=3), ("S-127",)),
    _fault("zeroed", "a matrix was zeroed by a download that was cut off",
           lambda p: _zero(p, "self_attn.o_proj.weight"), ("S-89", "S-127")),
    _fault("exchanged", "two layers had changed places on the disk",
           lambda p: _exchange(p, "layers.0.mlp.gate_proj.weight", "layers.1.mlp.gate_proj.weight"), ("S-127",)),
    _fault("padding", "bytes that belong to no tensor were not zero",
           lambda p: overwrite(p, header_of(p).data_offset - 1, b"\1"), ("S-86",)),
    _fault("footer", "the footer's checksum was another file's", _footer, ("S-86",)),
)  # fmt: skip
