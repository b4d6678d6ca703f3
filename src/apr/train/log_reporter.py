"""The loggers of a run: which, what they are sent, what is told of them."""

from __future__ import annotations

import secrets
import sys
from contextlib import ExitStack, redirect_stdout
from functools import partial
from types import TracebackType
from typing import Any, Self

from apr.base.files import read_json
from apr.stepzero.certificate import Certificate
from apr.train.log_history import STEP_FIGURES, VALIDATION_FIGURES, figures_between
from apr.train.log_relay import CLOSE_S, Relay
from apr.train.loggers import LOGGERS_FILE, NO_LOGGER, LoggedRun, checked_loggers, open_logger
from apr.train.plan import RunPlan
from apr.train.reporter import Reporter, StepFigures
from apr.train.run_dir import RunDir
from apr.train.spec import RunSpec


class Loggers:
    """A listener of a run that also sends its figures to loggers; a context manager around all of the run."""

    def __init__(self, spec: RunSpec, plan: RunPlan, run_dir: RunDir, reporter: Reporter) -> None:
        """Name what is logged where.

        Args:
            spec: says which loggers; see `checked_loggers`.
            plan: its values are the run's settings there.
            run_dir: holds the run's id for them, and is told of failures.
            reporter: hears everything too.

        Raises:
            BadOption, ExtraMissing: a logger that was asked for cannot be had.
        """
        self._names = checked_loggers(spec) if run_dir.writes else ()  # one process of a run speaks
        self._is_asked = spec.log is not None
        self._plan, self._run_dir, self._reporter = plan, run_dir, reporter
        self._relays: list[Relay] = []
        self._stack = ExitStack()
        self._after_step = self._last_step = 0

    def start(self, after_step: int) -> None:
        """Open the loggers, once the run is about to make steps; `after_step` of them are there already."""
        self._after_step = self._last_step = after_step
        if not self._names:
            if self._is_asked and self._run_dir.writes and (self._run_dir.path / LOGGERS_FILE).is_file():
                self._write(self._id())  # a resume without them
            return
        about = LoggedRun(
            folder=self._run_dir.path,
            id=self._write(self._id()),
            after_step=after_step,
            settings={name: item["value"] for name, item in self._plan.to_dict()["values"].items()},
        )
        history = partial(figures_between, self._run_dir.path, last=after_step)
        self._relays = [Relay(name, partial(open_logger, name, about), history) for name in self._names]

    def _id(self) -> str:
        path = self._run_dir.path / LOGGERS_FILE
        return str(read_json(path)["id"]) if path.is_file() else secrets.token_hex(8)

    def _write(self, id: str) -> str:
        names = list(self._names) or [NO_LOGGER]
        self._run_dir.write(LOGGERS_FILE, {"format": "apr-loggers-1", "id": id, "names": names})
        return id

    def __enter__(self) -> Self:
        if self._names:  # libraries print, and stdout is for the result
            self._stack.enter_context(redirect_stdout(sys.stderr))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            self.close(0.0)  # every end that has a record has closed them before it

    def close(self, wait_s: float = CLOSE_S) -> None:
        """Wait for the loggers, and tell what went wrong at the end."""
        for relay in self._relays:
            relay.close(wait_s)
        self._tell()

    def to_record(self) -> list[dict[str, Any]]:
        """What each logger was sent and lost by this process, which went on after `after_step`."""
        return [{**relay.to_record(), "after_step": self._after_step} for relay in self._relays]

    def note(self, text: str) -> None:
        """Pass a sentence on."""
        self._reporter.note(text)

    def phase(self, text: str, done: int, total: int | None) -> None:
        """Pass progress on."""
        self._reporter.phase(text, done, total)

    def certificate(self, certificate: Certificate) -> None:
        """Pass step zero's table on."""
        self._reporter.certificate(certificate)

    def step(self, figures: StepFigures) -> None:
        """Send the figures of an update."""
        self._last_step = figures.step
        self._send({name: getattr(figures, name) for name in STEP_FIGURES})
        self._reporter.step(figures)

    def validation(self, epoch: int, val_loss: float, standard_error: float | None) -> None:
        """Send the figures of a validation, at the step that it was made after."""
        self._send(dict(zip(VALIDATION_FIGURES, (val_loss, standard_error), strict=True)))
        self._reporter.validation(epoch, val_loss, standard_error)

    def _send(self, figures: dict[str, float | None]) -> None:
        for relay in self._relays:
            relay.send(self._last_step, figures)
        self._tell()

    def _tell(self) -> None:
        for sentence in [text for relay in self._relays for text in relay.news()]:
            self._run_dir.log(sentence)
            self._reporter.note(sentence)
