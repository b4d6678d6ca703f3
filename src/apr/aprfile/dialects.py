"""What a file named .apr is, told from its first bytes.

Three layouts are read; every other thing that goes by the name, and every format that is often mistaken for
it, is refused by its own name with the way out, because "bad magic" helps nobody.
"""

from __future__ import annotations

import struct

from apr.aprfile.errors import DialectUnsupported, FileTruncated, NotAprFile, VersionUnsupported
from apr.aprfile.layout import HEADER_BYTES, QUANTIZED, ROW_MAJOR, Dialect

_IMPORT = "run `apr import` on it"
_IMPORT_ORIGINAL = "run `apr import` on the checkpoint that it was made from"

# First bytes, what the file is, what to do. A longer magic stands before its own prefix.
_FOREIGN: tuple[tuple[bytes, str, str], ...] = (
    (b"GGUF", "a GGUF file", _IMPORT),
    (b"FUGG", "a big-endian GGUF file", "convert it to little-endian GGUF, then run `apr import`"),
    (b"PK\x03\x04", "a zip archive (a PyTorch checkpoint?)", "save it as safetensors, then run `apr import`"),
    (b"\x1f\x8b", "a gzip archive", "unpack it"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it"),
    (b"\x93NUMPY", "a numpy array", "give a checkpoint of a whole model to `apr import`"),
    (b"\x89HDF", "an HDF5 file", "save the model as safetensors, then run `apr import`"),
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the file itself",
        "fetch the file with `git lfs pull`",
    ),
    (b"<!DOCTYPE", "a web page", "download the file itself"),
    (b"<html", "a web page", "download the file itself"),
    (b"{", "JSON text", "give the folder that holds the weights to `apr import`"),
)
_OLD: tuple[tuple[bytes, str, str], ...] = (
    (b"APR1", "H", "an APR1 file, one of two layouts of 2025"),
    (b"APRT", "I", "a trace of a training monitor, not a model"),
)


def recognise(head: bytes, file_bytes: int, path: str) -> Dialect:
    """Name the dialect of a file from its first 64 bytes.

    Raises:
        NotAprFile: it is another format, empty, or nothing known.
        FileTruncated: it starts like an .apr file and has no whole header.
        DialectUnsupported, VersionUnsupported: it is an .apr file of a kind that is not read.
    """
    if file_bytes == 0:
        raise NotAprFile(path=path, found="an empty file", action="copy or make it again")
    if head[:3] != b"APR":
        _refuse_foreign(head, file_bytes, path)
    for magic, dialect, description in _OLD:
        if head.startswith(magic):
            raise DialectUnsupported(
                path=path, dialect=dialect, description=description, action=_IMPORT_ORIGINAL
            )
    if head[:4] not in (b"APR\0", b"APR2", b"APRN"):
        raise NotAprFile(path=path, found=_unknown(head), action=_IMPORT_ORIGINAL)
    if file_bytes < HEADER_BYTES:
        raise FileTruncated(path=path, part="header", size_bytes=file_bytes, required_bytes=HEADER_BYTES)
    return _current(head, path)


def _current(head: bytes, path: str) -> Dialect:
    magic, major, minor = head[:4], head[4], head[5]
    if (major, minor) == (2, 0):
        dialects: dict[bytes, Dialect] = {b"APR\0": "A", b"APR2": "E", b"APRN": "F"}
        return dialects[magic]
    if magic == b"APRN" and major == 1:
        description = "an APR v1 file of a classical model"
        raise DialectUnsupported(path=path, dialect="G", description=description, action=_IMPORT_ORIGINAL)
    if magic == b"APR\0" and head[4:8] == b"\x01\0\0\0":
        description = "a private file of version 1 that only borrows the magic"
        raise DialectUnsupported(path=path, dialect="D", description=description, action=_IMPORT_ORIGINAL)
    raise VersionUnsupported(path=path, version=f"{major}.{minor}")


def refuse_json_dialect(view: memoryview, path: str) -> None:
    """Refuse dialect C before its header is judged: its index is JSON and its padding nobody's.

    Raises:
        DialectUnsupported: one tensor is announced and the index begins like a JSON list of objects.
    """
    count, index_at = struct.unpack_from("<I", view, 8)[0], struct.unpack_from("<Q", view, 24)[0]
    if count == 1 and bytes(view[index_at : index_at + 2]) == b"[{":  # as a name length that would be 31,579
        description = "a JSON dump behind an APR v2 header"
        raise DialectUnsupported(path=path, dialect="C", description=description, action=_IMPORT_ORIGINAL)


def refuse_gguf_dialect(flags: int, path: str) -> None:
    """Refuse dialect B, known by its flags: other names, other dtype codes, and dimensions back to front.

    Raises:
        DialectUnsupported: the file calls itself quantised and not row-major, as only that converter does.
    """
    if flags & QUANTIZED and not flags & ROW_MAJOR:
        description = "a quantised GGUF copied with GGUF's names and reversed dimensions"
        action = "run `apr import` on the GGUF itself"
        raise DialectUnsupported(path=path, dialect="B", description=description, action=action)


def _refuse_foreign(head: bytes, file_bytes: int, path: str) -> None:
    if _is_safetensors(head, file_bytes):
        raise NotAprFile(path=path, found="a safetensors file", action=f"{_IMPORT}, or on its folder")
    for magic, found, action in _FOREIGN:
        if head.startswith(magic):
            raise NotAprFile(path=path, found=found, action=action)
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and len(head) > 1:
        action = "save it as safetensors, then run `apr import`; unpickling runs code"
        raise NotAprFile(path=path, found="a Python pickle", action=action)
    if not any(head):
        raise NotAprFile(path=path, found="a file of zeros (an unfinished download?)", action="copy it again")
    raise NotAprFile(path=path, found=_unknown(head), action="name an .apr file, or run `apr import`")


def _is_safetensors(head: bytes, file_bytes: int) -> bool:
    return len(head) > 8 and head[8:9] == b"{" and struct.unpack_from("<Q", head)[0] <= file_bytes - 8


def _unknown(head: bytes) -> str:
    return f"something unknown that starts with {head[:4].hex(' ')}"
