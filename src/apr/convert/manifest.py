"""A manifest: which sha256 every file of a checkpoint should have, as somebody else says.

Two spellings are read, what sha256sum prints and JSON. Nothing is skipped: a line that is taken for a comment
is a file that nobody checks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apr.base.errors import CannotRead
from apr.base.files import require_file
from apr.convert.errors import ManifestBad, ManifestContradictory

SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](\S|\S.*\S)")  # two spaces, or " *" for what was read as binary


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The digests that a manifest lists: lower case, by the name relative to the checkpoint's folder."""

    path: str
    digests: Mapping[str, str]


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with every pair it holds: a dict takes the last of two equal names in silence."""


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Args:
        path: what sha256sum printed, or a JSON object: digests by name, or {"files": [{"name", "sha256"}, ...]}.

    Raises:
        FileMissing, CannotRead: it is not there, or cannot be read.
        ManifestBad: a line or an entry is not of either form, or there is none.
        ManifestContradictory: a name stands twice, with two digests.
    """
    text = _read_text(path)
    entries = _json_entries(text, path) if text.lstrip().startswith("{") else _line_entries(text, path)
    digests: dict[str, str] = {}
    for spelled, digest in entries:
        name, digest = spelled.removeprefix("./"), digest.lower()  # find prints ./ before every name
        first = digests.setdefault(name, digest)
        if first != digest:
            raise ManifestContradictory(path=str(path), name=name, first=first, second=digest)
    if not digests:
        raise ManifestBad(path=str(path), place="the file", defect="lists nothing")
    return Manifest(path=str(path), digests=digests)


def _read_text(path: Path) -> str:
    require_file(path, kind="manifest")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CannotRead(path=str(path), reason=error.strerror or str(error)) from error
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ManifestBad(path=str(path), place=f"line {line}", defect="is not UTF-8") from error


def _line_entries(text: str, path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        match = _LINE.fullmatch(line)
        if match is None or not line.isprintable():
            defect = f"is {line[:80]!r}" if line else "is empty"
            raise ManifestBad(path=str(path), place=f"line {number}", defect=defect)
        yield match[2], match[1]


def _json_entries(text: str, path: Path) -> Iterator[tuple[str, str]]:
    for number, (name, digest) in enumerate(_json_pairs(text, path), start=1):
        is_name = isinstance(name, str) and bool(name.strip())
        if not is_name or not isinstance(digest, str) or not SHA256.fullmatch(digest):
            shown = repr(digest)[:80] if isinstance(digest, str) else "no text"
            defect = f"has {shown} as the digest of {repr(name)[:80] if isinstance(name, str) else 'no text'}"
            raise ManifestBad(path=str(path), place=f"entry {number}", defect=defect)
        yield name, digest


def _json_pairs(text: str, path: Path) -> Iterable[tuple[Any, Any]]:
    """The names and what stands beside them, of either JSON form."""
    try:
        pairs = json.loads(text, object_pairs_hook=_Pairs)
    except json.JSONDecodeError as error:
        raise ManifestBad(path=str(path), place=f"line {error.lineno}", defect=f"({error.msg})") from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, brackets 100,000 deep
        raise ManifestBad(path=str(path), place="the file", defect="is no JSON that can be read") from error
    if [name for name, _ in pairs] != ["files"] or not _is_list(pairs[0][1]):
        return pairs
    return [_listed(entry, number, path) for number, entry in enumerate(pairs[0][1], start=1)]


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and not isinstance(value, _Pairs)


def _listed(entry: Any, number: int, path: Path) -> tuple[Any, Any]:
    names = sorted(name for name, _ in entry) if isinstance(entry, _Pairs) else None
    if names != ["name", "sha256"]:
        defect = "is no object" if names is None else f"has the fields {', '.join(names)[:80] or 'none'}"
        raise ManifestBad(path=str(path), place=f"entry {number}", defect=defect)
    values = dict(entry)
    return values["name"], values["sha256"]
