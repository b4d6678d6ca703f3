"""Whether what a falsifier needs is here: a GPU and tools are looked for, the rest somebody must say."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

DEFAULT_MINUTES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What there is to run with."""

    have: frozenset[str] = frozenset()  # said by --have and PV_HAVE: "network", "model:NAME"
    minutes: float = DEFAULT_MINUTES  # that one falsifier may need


def unmet(needs: Iterable[str], means: Means, root: Path) -> str | None:
    """The first need that is not met, as a clause; None when all are.

    Args:
        needs: such as "gpu" or "minutes:20".
        means: what there is.
        root: of the project, where a model may lie.
    """
    return next((why for need in needs if (why := _unmet(need, means, root))), None)


def _unmet(need: str, means: Means, root: Path) -> str | None:
    if need in means.have:
        return None
    kind, _, what = need.partition(":")
    if kind == "gpu":
        return None if devices() else "needs a GPU, and none was found"
    if kind == "tool":
        return None if shutil.which(what) else f"needs {what}, which is not installed"
    if kind == "model":
        there = (root / what).exists()
        return None if there else f"needs the model {what}; --have {need} says that it is here"
    if kind == "minutes":
        return None if _number(what) <= means.minutes else f"needs {what} minutes; --minutes allows them"
    return f"needs {need}; --have {need} says that it is here"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("inf")


@lru_cache(maxsize=1)
def devices() -> tuple[str, ...]:
    """The names of the GPUs that the driver lists; none when they are hidden from programs."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or not shutil.which("nvidia-smi"):
        return ()
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in done.stdout.splitlines() if line.strip())
