"""A fault: a defect that really happened somewhere, and how to plant it.

A fault on disk is an edit of a copy: of a source folder before `apr import`, of the `.apr` file, of the shards. A fault in
the program is a patch: it wraps a function of the running program, named by where it is looked up, so that everything
around it is the code of a real run. `apr falsify` plants one at a time and runs the command that a user would run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Place = Literal[
    "source folder",
    "container",
    "config",
    "tokenizer",
    "shards",
    "loader",
    "forward",
    "optimizer",
    "schedule",
    "data order",
    "subset",
    "checkpoint",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """A function of the program, and what takes its place."""

    target: str  # "package.module:attribute" or "package.module:Class.method", where it is looked up
    wrap: Callable[[Any], Any]  # gets the original, returns the replacement


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A defect to plant. Exactly one of `edit` and `patches` is given."""

    id: str  # "forward.no-rope": the place, then the defect
    imitates: tuple[str, ...]  # entries of docs/silent-failures.md, such as "S-50"
    place: Place
    gate: str  # the gate that must catch it
    says: str  # what is planted, one clause in the past tense, to be read by a user
    # What it spoils is a copy: of the source folder, of the .apr file (container, config), of the dataset folder (shards),
    # of a finished run directory (checkpoint), or of a folder that holds MODEL and SHARDS (tokenizer).
    edit: Callable[[Path], None] | None = None
    patches: tuple[Patch, ...] = ()
    quick: bool = False  # part of `apr falsify --quick`
    needs: Callable[[Any], bool] | None = None  # whether a TransformerConfig can carry it; None for every one
    # Of the run that it is planted in, by field of RunSpec.
    options: Mapping[str, Any] = field(default_factory=dict)


# Names inside a scene, the folder that an edit of a tokenizer gets: it holds copies of the checkpoint and the dataset.
MODEL = "model.apr"
SHARDS = "shards"
