"""Progress on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from apr.stepzero.certificate import Certificate
from apr.stepzero.gate import spelled
from apr.train.reporter import StepFigures

_SILENCE_S = 30.0  # on a screen without a bar
_COLOURS = {"yes": "green", "no": "bold red", "not known": "yellow"}


class Screen:
    """The listener of a run that writes to stderr; a context manager, so that a bar never outlives its work."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False, quiet=quiet)
        self._lines = not self.console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[detail]}"),
            console=self.console,
            transient=True,
            disable=self._lines or quiet,
        )
        self._task: TaskID | None = None
        self._phase = ""
        self._begun = self._told = 0.0  # of the phase, and of its last line

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def note(self, text: str) -> None:
        """Say a sentence."""
        self.console.print(text, markup=False, soft_wrap=True)

    def phase(self, text: str, done: int, total: int | None) -> None:
        """Move the bar of a phase; elsewhere than on a terminal a line at its start and twice a minute."""
        if self._lines:
            self._line(text, done, total)
        else:
            share = f"{100 * done // total} %" if total else ""
            self._show(text, done if total else None, total, share)
        self._phase = text

    def _line(self, text: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if text != self._phase:
            self.console.print(f"{text} ...", markup=False, soft_wrap=True)
            self._begun = self._told = now
        elif now - self._told > _SILENCE_S and total and 0 < done < total:
            left = clock((now - self._begun) * (total - done) / done)
            self.console.print(f"{text}: {100 * done // total} %, {left} left", markup=False, soft_wrap=True)
            self._told = now

    def step(self, figures: StepFigures) -> None:
        """Report an update: step, loss, learning rate, tokens per second, time left."""
        detail = (
            f"loss {figures.train_loss:.4f}  lr {figures.lr:.2e}  {figures.tokens_per_sec:,.0f} tokens/s  "
            f"{clock(figures.seconds_left)} left"
        )
        if self._lines:
            self.note(f"step {figures.step}/{figures.num_steps}  {detail}")
        else:
            self._show(f"step {figures.step}/{figures.num_steps}", figures.step, figures.num_steps, detail)
        self._phase = "step"

    def validation(self, epoch: int, val_loss: float, standard_error: float | None) -> None:
        """Report a validation."""
        spread = "" if standard_error is None else f" +- {standard_error:.4f}"
        self.note(f"epoch {epoch}: validation loss {val_loss:.4f}{spread} nats per token")

    def certificate(self, certificate: Certificate) -> None:
        """Show step zero's table."""
        table = Table(title="step zero", title_justify="left", expand=False)
        for name in ("gate", "claim", "figure", "limit", "s", "verdict"):
            table.add_column(name, justify="right" if name == "s" else "left", overflow="fold")
        for gate in certificate.gates:
            colour = _COLOURS[gate.verdict]
            table.add_row(
                gate.id, gate.claim, spelled(gate.figure), spelled(gate.limit), f"{gate.seconds:.1f}",
                f"[{colour}]{gate.verdict}[/]",
            )  # fmt: skip
        console = (
            self.console if not self._lines else Console(stderr=True, width=150, quiet=self.console.quiet)
        )
        console.print(table)
        self.note(grade_sentence(certificate))

    def _show(self, text: str, done: int | None, total: int | None, detail: str) -> None:
        if self._task is None:
            self._task = self._bar.add_task(text, total=total, detail=detail)
        self._bar.update(self._task, description=text, completed=done or 0, total=total, detail=detail)


def grade_sentence(certificate: Certificate) -> str:
    """Say what the certificate's grade means."""
    meaning = {
        "A": "grade A: the weights give the loss that an independent implementation gave",
        "B": "grade B: the weights give the loss that apr itself recorded at import",
        "C": "grade C: nothing independent is known of these weights; the loss lies in a plausible band",
        None: "from scratch: there is no checkpoint to certify",
    }
    if certificate.verdict == "no":
        return "certificate no: step zero refuses these inputs"
    return f"certificate {certificate.verdict}, {meaning[certificate.grade]}"


def clock(seconds: float) -> str:
    """Spell a duration as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@contextmanager
def screen(output_format: str = "text") -> Iterator[Screen]:
    """A screen for a command; talk goes to stderr in every format."""
    with Screen(quiet=sys.stderr is None) as shown:
        yield shown
