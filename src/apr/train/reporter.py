"""What a run tells while it runs; the command line decides how that looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from apr.stepzero.certificate import Certificate
from apr.train.spikes import Spike


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFigures:
    """One update, as logged (INV-TRAIN-001)."""

    step: int  # 1 for the first
    num_steps: int
    train_loss: float  # nats per token, before the update
    grad_norm: float  # global, before clipping
    lr: float  # read back from the optimizer
    tokens_per_sec: float
    seconds_left: float
    tokens_seen: int
    spike: Spike | None = None  # why the update was left out


class Reporter(Protocol):
    """The listener of a run."""

    def note(self, text: str) -> None:
        """Say a sentence."""
        ...

    def phase(self, text: str, done: int, total: int | None) -> None:
        """Report progress of a phase."""
        ...

    def certificate(self, certificate: Certificate) -> None:
        """Show step zero's table."""
        ...

    def step(self, figures: StepFigures) -> None:
        """Report an update."""
        ...

    def validation(self, epoch: int, val_loss: float, standard_error: float | None) -> None:
        """Report a validation."""
        ...


class Silent:
    """A reporter that says nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def phase(self, text: str, done: int, total: int | None) -> None:
        """Say nothing."""

    def certificate(self, certificate: Certificate) -> None:
        """Say nothing."""

    def step(self, figures: StepFigures) -> None:
        """Say nothing."""

    def validation(self, epoch: int, val_loss: float, standard_error: float | None) -> None:
        """Say nothing."""
