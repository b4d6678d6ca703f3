"""Files that are either whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from apr.base.errors import BadJson, CannotRead, CannotWrite, FileMissing

_BLOCK_BYTES = 1 << 22


def canonical_json(value: Any) -> bytes:
    """Encode a value as canonical JSON: sorted keys, no spaces, UTF-8, no NaN.

    Raises:
        ValueError: the value holds a NaN or an infinity, which JSON has no word for.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def sha256_bytes(*parts: bytes | memoryview) -> str:
    """Hash the concatenation of the parts; returns 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def sha256_file(path: Path) -> str:
    """Hash a file's bytes; returns 64 hexadecimal digits.

    Raises:
        FileMissing, CannotRead: the file is not there, or cannot be read.
    """
    require_file(path)
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        raise CannotRead(path=str(path), reason=error.strerror or str(error)) from error
    return digest.hexdigest()


def require_file(path: Path, kind: str = "file", made_by: str = "") -> None:
    """Refuse a path that is not a regular file.

    Raises:
        FileMissing: it is not.
    """
    if not path.is_file():
        raise FileMissing(path=str(path), kind=kind, made_by=made_by)


def read_json(path: Path, kind: str = "JSON file", made_by: str = "") -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        FileMissing, CannotRead, BadJson: the file is not there, cannot be read, or holds no JSON object, or one
            that says two things under one key.
    """
    require_file(path, kind, made_by)
    try:
        value = json.loads(path.read_bytes(), object_pairs_hook=unique_object)
    except OSError as error:
        raise CannotRead(path=str(path), reason=error.strerror or str(error)) from error
    except RecursionError as error:
        raise BadJson(path=str(path), reason="it is nested too deeply") from error
    except ValueError as error:
        raise BadJson(path=str(path), reason=str(error)) from error
    if not isinstance(value, dict):
        raise BadJson(path=str(path), reason=f"it holds {json_kind(value)}")
    return value


def unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of pairs, for `json.loads`; readers differ in which of two values under one key they take.

    Raises:
        ValueError: a key stands twice with two values.
    """
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value and value[key] != item:
            raise ValueError(f"the key {key!r} stands twice, with two values")
        value[key] = item
    return value


def json_kind(value: Any) -> str:
    """What a JSON value is, in words."""
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    kinds = {str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds[type(value)]


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` that takes its name when the block ends without an error.

    The file is fsynced before the rename and the folder after it; on any error the temporary file and the folders
    made for it are removed, and what stood at `path` is untouched.

    Raises:
        CannotWrite: the operating system refused (no space, no permission).
    """
    temporary: Path | None = None
    made: list[Path] = []
    try:
        made = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        os.close(handle)
        with temporary.open("r+b") as stream:
            yield stream
            stream.flush()
        fsync(temporary)  # by name: a library may have written through a handle of its own
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes it private; a result is an ordinary file
        os.replace(temporary, path)
        fsync(path.parent)
    except OSError as error:
        raise CannotWrite(path=str(path), reason=error.strerror or str(error)) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        for folder in made:  # the innermost first; those that the file now stands in refuse
            with suppress(OSError):
                folder.rmdir()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file or nothing (see `replacing`)."""
    with replacing(path) as stream:
        stream.write(content)


def copy_file(source: Path, path: Path) -> None:
    """Copy a file as a whole or not at all (see `replacing`)."""
    with replacing(path) as stream, source.open("rb") as content:
        shutil.copyfileobj(content, stream, _BLOCK_BYTES)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON with sorted keys, or nothing (see `replacing`)."""
    write_bytes(
        path,
        json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n",
    )


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def fsync(path: Path) -> None:
    """Have the system put a file, or the names in a folder, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
