"""The books of a run: what was consumed, what came out, when patience is spent."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Self

from apr.stepzero.gates import FINETUNE_LOSS_LIMIT
from apr.train.errors import LossDiverged
from apr.train.loop import Update
from apr.train.plan import FIRST_PATIENT_EPOCH, PATIENCE_EPOCHS, RunPlan
from apr.train.reporter import StepFigures
from apr.train.spikes import Trail

_KEPT = (
    *("step0_loss", "steps", "tokens", "train_seconds", "val_losses", "checkpoints", "epoch_loss"),
    *("epoch_tokens", "epoch_grad_norm_max", "epochs_without_gain", "reference_loss", "reference_sums"),
)


@dataclass(kw_only=True)
class Ledger:
    """The books of a run: what was consumed and what came out."""

    plan: RunPlan
    step0_loss: float
    start: float = field(default_factory=time.perf_counter)
    seconds_before: float = 0.0  # of the processes that this run went on from
    steps: int = 0
    tokens: int = 0
    train_seconds: float = 0.0
    val_losses: list[float] = field(default_factory=list)
    checkpoints: list[str] = field(default_factory=list)
    epoch_loss: float = 0.0  # token-weighted sum since the last validation
    epoch_tokens: int = 0
    epoch_grad_norm_max: float = 0.0
    epochs_without_gain: int = 0
    # The last validation loss that was a gain, and its sum for each sequence.
    reference_loss: float = math.inf
    reference_sums: list[float] = field(default_factory=list)
    trail: Trail = field(init=False)  # of what spikes are judged by

    def __post_init__(self) -> None:
        plan = self.plan
        self.trail = Trail(policy=plan.spike, threshold=plan.spike_threshold, window=plan.spike_window)

    def add(self, update: Update) -> StepFigures:
        """Enter an update; returns what is told about it."""
        self.steps = update.step
        self.tokens += update.num_tokens
        self.train_seconds += update.seconds
        self.epoch_loss += update.train_loss * update.num_tokens
        self.epoch_tokens += update.num_tokens
        self.epoch_grad_norm_max = max(self.epoch_grad_norm_max, update.grad_norm)
        self.trail = self.trail.entered(update.train_loss, update.grad_norm, update.spike)
        return StepFigures(
            step=update.step,
            num_steps=self.plan.num_steps,
            train_loss=update.train_loss,
            grad_norm=update.grad_norm,
            lr=update.lr,
            tokens_per_sec=update.num_tokens / update.seconds,
            seconds_left=self.train_seconds / self.steps * (self.plan.num_steps - self.steps),
            tokens_seen=self.tokens,
            spike=update.spike,
        )

    @property
    def epoch(self) -> int:
        """The epoch of the last update, 1 for the first."""
        return math.ceil(self.steps / self.plan.steps_per_epoch)

    @property
    def is_epoch_end(self) -> bool:
        """Whether a validation is due."""
        return self.steps % self.plan.steps_per_epoch == 0 or self.steps == self.plan.num_steps

    @property
    def is_complete(self) -> bool:
        """Whether every update is made and validated."""
        return self.steps == self.plan.num_steps and not self.epoch_tokens

    @property
    def tokens_per_sec(self) -> float | None:
        """Mean throughput of the updates, validation left out; None before the first."""
        return self.tokens / self.train_seconds if self.train_seconds else None

    def judge(
        self, val_loss: float, vocab_size: int, sums: Sequence[float] = (), num_tokens: int = 1
    ) -> float:
        """Enter a validation loss and check its bounds (INV-TRAIN-005), always fatal.

        A gain is what lies above twice the standard error of the difference to the last gain, sequence by sequence:
        the same sequences are scored each time, so most of the loss's own spread cancels.

        Args:
            val_loss: nats per token.
            vocab_size: bounds the first loss of a run from scratch.
            sums: the loss of each sequence, nats.
            num_tokens: of all of them.

        Returns:
            What a gain has to be above, in nats per token; 0 where there is nothing to compare with.

        Raises:
            LossDiverged: it is not finite, above the first limit, or more than twice the one before.
        """
        before = self.val_losses[-1] if self.val_losses else self.step0_loss
        first = FINETUNE_LOSS_LIMIT if self.plan.mode == "finetune" else 2 * math.log(vocab_size)
        limit = min(first, 2 * before) if not self.val_losses else 2 * before
        if not val_loss <= limit:  # a NaN is not below anything
            raise LossDiverged(epoch=self.epoch, value=val_loss, limit=limit)
        self.val_losses.append(val_loss)
        noise = 2 * paired_error(self.reference_sums, sums, num_tokens)
        if val_loss < self.reference_loss - noise:
            self.epochs_without_gain = 0
            self.reference_loss, self.reference_sums = val_loss, list(sums)
        else:
            self.epochs_without_gain += 1
        return noise

    @property
    def is_out_of_patience(self) -> bool:
        """Whether the validation loss has not improved for two epochs, from the third epoch on (INV-TRAIN-004)."""
        return self.epoch >= FIRST_PATIENT_EPOCH and self.epochs_without_gain >= PATIENCE_EPOCHS

    @property
    def has_ended_early(self) -> bool:
        """Whether an epoch has just been validated that spent the last patience before the last step."""
        return self.is_out_of_patience and not self.epoch_tokens and self.steps < self.plan.num_steps

    def close_epoch(self) -> tuple[float, float]:
        """Return training loss and greatest gradient norm since the last validation, and start anew."""
        train_loss, norm = self.epoch_loss / self.epoch_tokens, self.epoch_grad_norm_max
        self.epoch_loss, self.epoch_tokens, self.epoch_grad_norm_max = 0.0, 0, 0.0
        return train_loss, norm

    def to_books(self) -> dict[str, Any]:
        """Everything that a resumed run needs to keep these books on, as JSON values."""
        # Copies: the save writes them in the background, while these books are being kept on.
        books = {name: copy(getattr(self, name)) for name in _KEPT}
        if math.isinf(self.reference_loss):
            books["reference_loss"] = None  # before the first validation; JSON has no word for it
        return {**books, "seconds_before": self.wall_seconds, "trail": self.trail.to_books()}

    @classmethod
    def from_books(cls, plan: RunPlan, books: Mapping[str, Any]) -> Self:
        """The ledger as it was saved."""
        reference = math.inf if books["reference_loss"] is None else books["reference_loss"]
        lists = {name: list(books[name]) for name in ("val_losses", "checkpoints", "reference_sums")}
        kept = {name: value for name, value in books.items() if name != "trail"}
        ledger = cls(plan=plan, **{**kept, **lists, "reference_loss": reference})
        ledger.trail = ledger.trail.from_books(books["trail"])
        return ledger

    @property
    def wall_seconds(self) -> float:
        """Since the run began, the time between two processes left out."""
        return self.seconds_before + time.perf_counter() - self.start


def paired_error(before: Sequence[float], after: Sequence[float], num_tokens: int) -> float:
    """Standard error of the difference of two mean losses over the same sequences, in nats per token.

    Args:
        before, after: the summed loss of each sequence, nats.
        num_tokens: of all sequences.

    Returns:
        0 where there are not two pairs.
    """
    n = len(after)
    if n < 2 or len(before) != n:
        return 0.0
    differences = [b - a for a, b in zip(before, after, strict=True)]
    mean = math.fsum(differences) / n
    return math.sqrt(n / (n - 1) * math.fsum((d - mean) ** 2 for d in differences)) / num_tokens
