"""Runs that are killed, inside the test's own process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from apr.train.reporter import Silent, StepFigures
from apr.workflows.verifying import verify


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours is written after it."""


class Killer(Silent):
    """Kills the run when it reports a step, or raises what it is given; keeps what is said."""

    def __init__(self, step: int = 0, error: BaseException | None = None) -> None:
        self._step, self._error, self.said = step, error or Killed(), list[str]()

    def step(self, figures: StepFigures) -> None:
        if figures.step == self._step:
            raise self._error

    def note(self, text: str) -> None:
        self.said.append(text)


@contextmanager
def dies(*, surely: bool = True) -> Iterator[None]:
    """A block whose run is killed, or may be.

    A real kill takes the thread that saves along; here it would go on beside the next run, so it is waited for.
    """
    with pytest.raises(Killed) if surely else suppress(Killed):
        yield
    for thread in threading.enumerate():
        if thread.name == "saving":
            thread.join()


def noes(run_dir: Path, **given: Any) -> list[str]:
    """The checks of `apr verify` that say no."""
    return [check["id"] for check in verify(run_dir, **given)["checks"] if check["verdict"] == "no"]
