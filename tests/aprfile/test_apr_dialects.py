"""What a file called .apr may be: three layouts are read, the others named."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apr.aprfile.errors import (
    DialectUnsupported,
    FileTruncated,
    FlagUnsupported,
    NotAprFile,
    VersionUnsupported,
)
from apr.aprfile.reader import open_apr

Craft = Callable[..., Path]
A = {"name": "a", "values": (1.0, 2.0)}


@pytest.mark.parametrize(("magic", "dialect"), [(b"APR\0", "A"), (b"APR2", "E"), (b"APRN", "F")])
@pytest.mark.parametrize("flags", [0x0400, 0x0000, 0x0420, 0x0600, 0x01C0])
def test_three_layouts_are_read(craft: Craft, magic: bytes, dialect: str, flags: int) -> None:
    with open_apr(craft([A], {"model_type": "x"}, magic=magic, flags=flags)) as file:
        assert file.dialect == dialect
        assert file.array("a").tolist() == [1.0, 2.0]


def test_the_bfloat16_code_of_older_writers_is_read(craft: Craft) -> None:
    with open_apr(craft([{"name": "a", "data": b"\x80\x3f\x00\x40", "shape": (2,), "code": 2}])) as file:
        assert file.entries["a"].dtype == "BF16"
        assert file.as_f32("a").tolist() == [1.0, 2.0]


def _b(craft: Craft) -> Path:
    return craft([{"name": "blk.0.attn_q.weight"}], {"architecture": "llama"}, flags=0x0020, footer=False)


def _c(craft: Craft) -> Path:
    path = craft([A], {"model_type": "x"}, footer=False)
    raw = bytearray(path.read_bytes())
    index_at = struct.unpack_from("<Q", raw, 24)[0]
    raw[index_at:] = json.dumps([{"name": "weights", "dtype": "json"}]).encode() + b"{}"
    path.write_bytes(raw)
    return path


def _raw(craft: Craft, content: bytes) -> Path:
    path = craft([A])
    path.write_bytes(content)
    return path


SIDE: dict[str, Callable[[Craft], Path]] = {
    "B": _b,
    "C": _c,
    "D": lambda craft: _raw(craft, b"APR\0" + struct.pack("<II", 1, 0x54535000) + bytes(80)),
    "G": lambda craft: _raw(craft, b"APRN\1\0" + bytes(100)),
    "H": lambda craft: _raw(craft, b"APR1" + bytes(100)),
    "I": lambda craft: _raw(craft, b"APRT" + bytes(10)),
}


@pytest.mark.parametrize("dialect", SIDE)
@pytest.mark.parametrize("level", ["full", "structure"])
def test_the_other_layouts_are_refused_by_name(craft: Craft, dialect: str, level: Any) -> None:
    with pytest.raises(DialectUnsupported) as caught:
        open_apr(SIDE[dialect](craft), level)
    assert caught.value.dialect == dialect
    assert "apr import" in caught.value.advice


@pytest.mark.parametrize(
    ("content", "word", "action"),
    [
        (b"", "empty", "again"),
        (b"GGUF" + struct.pack("<I", 3) + bytes(60), "GGUF", "apr import"),
        (struct.pack("<Q", 2) + b"{}", "safetensors", "apr import"),
        (struct.pack("<Q", 60) + b'{"x":' + bytes(70), "safetensors", "apr import"),
        (b"PK\x03\x04" + bytes(100), "zip", "safetensors"),
        (pickle.dumps({"a": 1}), "pickle", "unpickling"),
        (pickle.dumps({"a": 1}, protocol=2), "pickle", "unpickling"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS", "pull"),
        (b"<!DOCTYPE html>", "web page", "download"),
        (b'{"model_type": "llama"}', "JSON", "folder"),
        (bytes(200), "zeros", "again"),
        (b"hello", "68 65 6c 6c", "apr import"),
        (b"AP", "41 50", "apr import"),
        (b"APRX" + bytes(100), "41 50 52 58", "apr import"),
        (b"\x80", "80", "apr import"),
    ],
)
def test_other_formats_are_named_with_the_way_out(
    craft: Craft, content: bytes, word: str, action: str
) -> None:
    with pytest.raises(NotAprFile) as caught:
        open_apr(_raw(craft, content))
    assert word in caught.value.found
    assert action in caught.value.action


def test_a_numpy_array_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones(3))
    with pytest.raises(NotAprFile) as caught:
        open_apr(tmp_path / "x.npy")
    assert "numpy" in caught.value.found


@pytest.mark.parametrize("size", [4, 5, 63])
def test_a_short_file_is_cut_off_in_its_header(craft: Craft, size: int) -> None:
    path = craft([A])
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(FileTruncated) as caught:
        open_apr(path)
    assert (caught.value.part, caught.value.size_bytes) == ("header", size)


@pytest.mark.parametrize(
    ("magic", "version"),
    [(b"APR\0", b"\3\0"), (b"APR\0", b"\2\1"), (b"APR2", b"\1\0"), (b"APRN", b"\3\0"), (b"APR\0", b"\1\1")],
)
def test_an_unknown_version_is_refused(craft: Craft, magic: bytes, version: bytes) -> None:
    with pytest.raises(VersionUnsupported) as caught:
        open_apr(craft([A], magic=magic, version=version))
    assert caught.value.version == f"{version[0]}.{version[1]}"


@pytest.mark.parametrize(
    ("flags", "flag"),
    [
        (0x0401, "LZ4"),
        (0x0402, "ZSTD"),
        (0x0404, "ENCRYPTED"),
        (0x0408, "SIGNED"),
        (0x0410, "SHARDED"),
        (0x0800, "LAYOUT_COLUMN_MAJOR"),
        (0x0C00, "LAYOUT_COLUMN_MAJOR"),
        (0x1400, "unknown bit 12"),
        (0x8400, "unknown bit 15"),
    ],
)
def test_flags_that_change_the_meaning_are_refused(craft: Craft, flags: int, flag: str) -> None:
    with pytest.raises(FlagUnsupported) as caught:
        open_apr(craft([A], flags=flags))
    assert caught.value.flag == flag


def test_a_wrong_header_checksum_is_refused(craft: Craft) -> None:
    path = craft([A])
    raw = bytearray(path.read_bytes())
    raw[60] = 1
    path.write_bytes(raw)
    with pytest.raises(Exception, match="APR206"):
        open_apr(path, "structure")
