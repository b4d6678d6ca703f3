"""The bounded proofs of apr-pretrain-from-init-v1 for `pv prove`: their domains, and the check of one case.

They go through the command line in this process: its own arguments, its own dispatch, its own exit codes.
"""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

import torch

from contracts.claims.bounded import (
    ABSENCE_DOMAIN,
    FAILURE_DOMAIN,
    init_decides_the_start_and_nothing_else,
    load_failure_exits_non_zero,
)
from contracts.scene import Scene


@lru_cache(maxsize=1)
def _scene() -> tuple[Scene, tempfile.TemporaryDirectory[str]]:
    """Files for all cases, in a folder that goes with the process."""
    torch.set_num_threads(1)
    folder = tempfile.TemporaryDirectory(prefix="apr-proof-")
    return Scene(Path(folder.name)), folder


def starts() -> tuple[tuple[str, str], ...]:
    """Both modes, with --init and without."""
    return ABSENCE_DOMAIN


def init_decides_the_start_alone(case: tuple[str, str]) -> None:
    """Absent: the run from scratch as it was. Present: another start, and the same plan."""
    mode, start = case
    init_decides_the_start_and_nothing_else(_scene()[0], mode, start == "present")


def load_failures() -> tuple[tuple[str, str], ...]:
    """Each class of files that do not load, in both modes."""
    return FAILURE_DOMAIN


def a_load_failure_exits_non_zero(case: tuple[str, str]) -> None:
    """The command ends with a refusal that names the failure."""
    failure, mode = case
    load_failure_exits_non_zero(_scene()[0], failure, mode)
