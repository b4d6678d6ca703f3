"""Which files a corpus consists of, in which order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from apr.base.errors import BadOption, CannotRead
from apr.data.errors import CorpusMissing, GlobMatchesNothing
from apr.data.streams import COMPRESSIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusFile:
    """A file of the corpus."""

    path: Path
    size_bytes: int  # as stored
    is_named: bool  # whether the caller named it, rather than a folder that it is in

    @property
    def content_suffix(self) -> str:
        """The suffix that says what it holds, below its compression: `.jsonl` for x.jsonl.gz."""
        suffix = self.path.suffix.lower()
        return Path(self.path.stem).suffix.lower() if suffix in COMPRESSIONS else suffix


def corpus_files(paths: Sequence[Path], glob: str) -> list[CorpusFile]:
    """List the files of a corpus: paths in the order given, a folder's files by their relative paths.

    Args:
        paths: files and folders. Linked folders inside a folder are not entered.
        glob: which files of a folder are read; a file that is named itself always is.

    Raises:
        CorpusMissing, GlobMatchesNothing, BadOption, CannotRead.
    """
    files: list[CorpusFile] = []
    for path in paths:
        if path.is_dir():
            files += [_corpus_file(found, is_named=False) for found in _folder_files(path, glob)]
        elif path.exists():
            files.append(_corpus_file(path, is_named=True))
        else:
            raise CorpusMissing(path=str(path))
    return files


def _corpus_file(path: Path, *, is_named: bool) -> CorpusFile:
    try:
        return CorpusFile(path=path, size_bytes=path.stat().st_size, is_named=is_named)
    except OSError as error:
        raise CannotRead(path=str(path), reason=error.strerror or str(error)) from error


def _folder_files(folder: Path, glob: str) -> list[Path]:
    _require_readable(folder)
    try:
        found = set(folder.glob(glob))
    except (ValueError, NotImplementedError) as error:
        raise BadOption(option="--glob", value=repr(glob), limit="a relative file pattern") from error
    # A link to nothing stays in the list: its size says so, where leaving it out would be silent.
    files = [path for path in found if path.is_file() or (path.is_symlink() and not path.exists())]
    if not files:
        raise GlobMatchesNothing(folder=str(folder), glob=glob)
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


def _require_readable(folder: Path) -> None:
    # Path.glob passes over folders that it may not enter without a word.
    def refuse(error: OSError) -> None:
        raise CannotRead(path=str(error.filename), reason=error.strerror or str(error)) from error

    for _ in os.walk(folder, onerror=refuse):
        pass
