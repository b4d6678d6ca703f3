"""The output folder of an encoding stands apart from the corpus."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from apr.base.errors import BadOption
from apr.data.sources import CorpusFile


class _RealFolders(dict[str, str]):
    """Folders without links on their way, as `os.path.realpath` finds them, with one question to the disk for each."""

    def __missing__(self, folder: str) -> str:
        parent, name = os.path.split(folder)
        is_plain = name not in ("", os.curdir, os.pardir) and not os.path.islink(folder)
        real = os.path.join(self[parent or os.curdir], name) if is_plain else os.path.realpath(folder)
        self[folder] = real
        return real


def require_apart(out: Path, files: Iterable[CorpusFile]) -> None:
    """Refuse an output folder that a corpus lies in: its shards would be the next run's text, and --force removes it.

    Raises:
        BadOption: a file is in it.
    """
    inside = os.path.join(os.path.realpath(out), "")  # unlike Path.resolve it takes a loop of links as it is
    real_folders = _RealFolders()
    for file in files:
        folder, name = os.path.split(file.path)
        real = os.path.realpath(file.path) if file.is_link else os.path.join(real_folders[folder], name)
        if f"{real}{os.sep}".startswith(inside):
            raise BadOption(
                option="--output", value=str(out), limit=f"free of corpus files such as {file.path}"
            )
