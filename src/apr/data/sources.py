"""Which files a corpus consists of, in which order."""

from __future__ import annotations

import fnmatch
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from apr.base.errors import BadOption, CannotRead
from apr.data.errors import CorpusMissing, GlobMatchesNothing
from apr.data.streams import COMPRESSIONS

MAX_WEIGHT = 1000.0  # a corpus repeated more often is a slip of the finger
_SHOWN_WEIGHT = f"a number above 0 and at most {MAX_WEIGHT:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A folder or file of the corpus, and how often its documents are taken."""

    path: Path
    weight: float = 1.0

    @property
    def name(self) -> str:
        """What a manifest calls it: its last part, so that a dataset is the same wherever its corpus lay."""
        return _as_text(self.path.name or self.path.resolve().name)

    @property
    def num_repeats(self) -> int:
        """How often it is read: 3 for a weight of 2.5, the last time for half of its documents."""
        return math.ceil(self.weight)


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusFile:
    """A file of the corpus."""

    path: Path
    name: str  # within its source
    size_bytes: int  # as stored
    modified_ns: int
    is_named: bool  # whether the caller named it, rather than a folder that it is in
    is_link: bool
    source: int = 0  # index of the source that it belongs to

    @property
    def content_suffix(self) -> str:
        """The suffix that says what it holds, below its compression: `.jsonl` for x.jsonl.gz.

        A compressed .json is one too: C4 and others name records so. A plain .json may be a file of source code.
        """
        stem, suffix = os.path.splitext(self.path)
        if suffix.lower() not in COMPRESSIONS:
            return suffix.lower()
        inner = os.path.splitext(stem)[1].lower()
        return ".jsonl" if inner == ".json" else inner

    @property
    def is_compressed(self) -> bool:
        """Whether it has to be read from its beginning."""
        return os.path.splitext(self.path)[1].lower() in COMPRESSIONS


def parse_source(text: str) -> Source:
    """Read `path` or `path:weight`.

    What is there as a whole is a path, whatever it ends in; so is what does not end in a number.

    Raises:
        BadOption: the weight is not above 0, or too large.
    """
    path, colon, end = text.rpartition(":")
    if not (colon and path) or Path(text).exists():
        return Source(path=Path(text))
    try:
        weight = float(end)
    except ValueError:
        return Source(path=Path(text))
    return checked_source(Source(path=Path(path), weight=weight))


def checked_source(source: Source | Path) -> Source:
    """A source with a weight that can be meant; a path alone counts once.

    Raises:
        BadOption: the weight is not above 0, or too large.
    """
    if isinstance(source, Path):
        return Source(path=source)
    if not 0.0 < source.weight <= MAX_WEIGHT:  # false for a NaN too
        value = f"{source.path}:{source.weight:g}"
        raise BadOption(option="--corpus", value=value, limit=f"a path with {_SHOWN_WEIGHT} behind the colon")
    return source


def corpus_files(sources: Sequence[Source], glob: str) -> list[CorpusFile]:
    """List the files of a corpus: sources in the order given, a folder's files by their relative paths.

    Args:
        sources: files and folders. Linked folders inside a folder are not entered.
        glob: which files of a folder are read; a file that is named itself always is.

    Raises:
        CorpusMissing, GlobMatchesNothing, BadOption, CannotRead.
    """
    files: list[CorpusFile] = []
    for index, source in enumerate(sources):
        path = source.path
        if path.is_dir():
            files += [_corpus_file(found, index, is_named=False) for found in _folder_files(path, glob)]
        elif path.exists():
            found = _Found(name=path.name, path=str(path), is_link=path.is_symlink())
            files.append(_corpus_file(found, index, is_named=True))
        else:
            raise CorpusMissing(path=str(path))
    return files


class _Found(NamedTuple):
    name: str  # in its folder
    path: str
    is_link: bool


def _corpus_file(found: _Found, source: int, *, is_named: bool) -> CorpusFile:
    try:
        stat = os.stat(found.path)
    except OSError as error:
        raise CannotRead(path=found.path, reason=error.strerror or str(error)) from error
    return CorpusFile(
        path=Path(found.path),
        name=_as_text(found.name),
        size_bytes=stat.st_size,
        modified_ns=stat.st_mtime_ns,
        is_named=is_named,
        is_link=found.is_link,
        source=source,
    )


def _as_text(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()  # a name may hold bytes that are no text


def _folder_files(folder: Path, glob: str) -> list[_Found]:
    """The files of a folder that a pattern names, in the order of their names in it."""
    deep, _, pattern = glob.rpartition("/")
    is_simple = deep == "**" and pattern != "" and "**" not in pattern
    found = sorted(_walked(folder, pattern) if is_simple else _globbed(folder, glob))
    if not found:
        raise GlobMatchesNothing(folder=str(folder), glob=glob)
    return found


def _walked(folder: Path, pattern: str) -> Iterator[_Found]:
    """What Path.glob finds for `**/pattern`, folders left out, in one pass; it would need two, see `_globbed`.

    What a folder's own list says of a file is not asked of the disk again: a corpus may have a million.
    """
    num_leading = len(os.path.join(folder, ""))
    is_meant = re.compile(fnmatch.translate(pattern)).match
    waiting = [str(folder)]
    while waiting:
        inner = waiting.pop()
        try:
            with os.scandir(inner) as entries:
                for entry in entries:
                    path = entry.path
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(path)
                    elif is_meant(entry.name) and (
                        entry.is_file(follow_symlinks=False) or _may_be_file(path)
                    ):
                        yield _Found(path[num_leading:], path, entry.is_symlink())
        except OSError as error:
            raise CannotRead(path=inner, reason=error.strerror or str(error)) from error


def _may_be_file(path: str) -> bool:
    # A link to nothing stays in the list: its size says so, where leaving it out would be silent.
    return os.path.isfile(path) or not os.path.exists(path)


def _globbed(folder: Path, glob: str) -> Iterator[_Found]:
    # Path.glob passes over folders that it may not enter without a word.
    for _ in os.walk(folder, onerror=_refuse):
        pass
    try:
        found = set(folder.glob(glob))
    except (ValueError, NotImplementedError) as error:
        raise BadOption(option="--glob", value=repr(glob), limit="a relative file pattern") from error
    for path in found:
        if _may_be_file(str(path)):
            yield _Found(path.relative_to(folder).as_posix(), str(path), path.is_symlink())


def _refuse(error: OSError) -> None:
    raise CannotRead(path=str(error.filename), reason=error.strerror or str(error)) from error
