"""A project with contracts, on the disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pv.rules.examples import Example
from pv_project import Trial

MakeProject = Callable[[Example], Path]


@pytest.fixture
def make_project(tmp_path: Path) -> MakeProject:
    """Writes an example and what stands beside it; gives the path of its contract."""

    def make(example: Example) -> Path:
        for name, text in example.files:
            write(tmp_path / name, text)
        for stem, text in example.beside:
            write(tmp_path / "contracts" / f"{stem}.yaml", text)
        return write(tmp_path / "contracts" / "example-v1.yaml", example.text)

    return make


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    """A project whose claims can be run, without a claim yet."""
    return Trial.at(tmp_path / "project")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
