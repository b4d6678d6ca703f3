"""A file is whole or not there, and its encoding is one."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apr.base.errors import BadJson, CannotRead, CannotWrite, FileMissing
from apr.base.files import (
    canonical_json,
    read_json,
    replacing,
    sha256_bytes,
    sha256_file,
    write_bytes,
    write_json,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(VALUES)
def test_canonical_json_round_trips_and_is_one(value: object) -> None:
    encoded = canonical_json(value)
    assert canonical_json(json.loads(encoded)) == encoded


def test_canonical_json_sorts_and_keeps_utf8() -> None:
    assert canonical_json({"b": 1, "a": [1.5, "\u00e9"]}) == '{"a":[1.5,"\u00e9"],"b":1}'.encode()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_canonical_json_refuses_what_json_has_no_word_for(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"x": [value]})


def test_digests_agree_with_the_standard_library(tmp_path: Path) -> None:
    content = os.urandom(5_000_000)  # more than one block
    (tmp_path / "x").write_bytes(content)
    wanted = hashlib.sha256(content).hexdigest()
    assert sha256_file(tmp_path / "x") == sha256_bytes(content[:7], memoryview(content)[7:]) == wanted


def test_an_error_in_the_block_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def write_half() -> None:
        with replacing(path) as stream:
            stream.write(b"half of the n")
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_name_is_taken_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x"
    with replacing(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_result_has_an_ordinary_files_mode(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_bytes(tmp_path / "x", b"new")
    finally:
        after = os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode
    assert after == umask  # asking for it did not change it


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "x"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, call, full)
    with pytest.raises(CannotWrite) as caught:
        write_bytes(path, b"new")
    assert caught.value.reason == os.strerror(errno.ENOSPC)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_real_limit_on_size_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    """A process of its own that may write no file above 4 kB: the write itself fails."""
    program = (
        "import sys; from pathlib import Path; from apr.base.files import write_bytes\n"
        "from apr.base.errors import CannotWrite\n"
        "try: write_bytes(Path(sys.argv[1]), bytes(1 << 20))\n"
        "except CannotWrite as error: sys.exit(42)"
    )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "x"], preexec_fn=limit, capture_output=True, check=False
    )
    assert done.returncode == 42, done.stderr
    assert not list(tmp_path.iterdir())


def test_a_path_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "x", tmp_path / "folder"):
        with pytest.raises(CannotWrite):
            write_bytes(path, b"new")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["file", "folder"]


def test_a_denied_permission_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (tmp_path / "x").write_bytes(b"{}")
    monkeypatch.setattr(Path, "open", denied)  # as root nothing is denied, so the call is made to be
    with pytest.raises(CannotRead):
        sha256_file(tmp_path / "x")


def test_json_files_round_trip_and_are_sorted(tmp_path: Path) -> None:
    write_json(tmp_path / "x", {"b": 1, "a": "\u00e9"})
    assert read_json(tmp_path / "x") == {"a": "\u00e9", "b": 1}
    assert (tmp_path / "x").read_text(encoding="utf-8") == '{\n  "a": "\u00e9",\n  "b": 1\n}\n'


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b"3", b"\xff{}", b"[" * 100_000],
    ids=["empty", "cut", "list", "number", "not utf-8", "nested without end"],
)
def test_what_is_no_json_object_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(BadJson) as caught:
        read_json(tmp_path / "x")
    assert caught.value.path == str(tmp_path / "x")


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileMissing):
            read_json(path)
        with pytest.raises(FileMissing):
            sha256_file(path)
