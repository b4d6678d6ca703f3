"""Loss on held-out tokens, for any module."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Takes inputs and targets, int64 [B, T] (targets -100 where nothing is predicted), and whatever else [B, T] the batches
# have, such as each token's document; returns the summed loss in nats.
LossSum = Callable[..., float]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalLoss:
    """A mean over tokens, with its uncertainty."""

    loss: float  # nats per token
    standard_error: float | None  # of the mean over sequences, nats; None for a single sequence
    num_tokens: int
    num_sequences: int
    sums: tuple[float, ...] = ()  # of each sequence, nats

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite where that overflows."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    def bits_per_byte(self, num_bytes: int) -> float:
        """Loss in bits per UTF-8 byte of the text that the tokens encode."""
        return self.loss * self.num_tokens / math.log(2) / num_bytes


@torch.no_grad()
def evaluate_loss(
    loss_sum: LossSum,
    batches: Iterable[tuple[Tensor, ...]],
    on_progress: Callable[[int], None] | None = None,
    *,
    is_mine: Callable[[int], bool] = lambda number: True,
    add_up: Callable[[Sequence[float]], list[float]] = list,
) -> EvalLoss:
    """Average the next-token loss over every target of the batches.

    Sequences are weighed by their tokens: a mean of batch means would let a short last batch count like a full one.

    Args:
        loss_sum: the model under test.
        batches: (inputs, targets), int64 [B, T], and what else `loss_sum` takes of them, [B, T].
        on_progress: called with the number of tokens done.
        is_mine: of the sequences, by number, those that this process scores.
        add_up: adds figures up over all processes; each sequence is scored by one, and so gives the same everywhere.
    """
    sums: list[float] = []
    counts: list[int] = []
    for batch in batches:
        # One sequence at a time: the standard error needs each one's own mean.
        for row in range(batch[0].shape[0]):
            inputs, targets, *more = (part[row : row + 1] for part in batch)
            counts.append(int((targets >= 0).sum()))
            mine = is_mine(len(sums))
            sums.append(loss_sum(inputs, targets, *more) if mine else 0.0)
        if on_progress:
            on_progress(sum(counts))
    sums = add_up(sums)
    total = sum(counts)
    mean = math.fsum(sums) / total
    return EvalLoss(
        loss=mean,
        standard_error=_standard_error(sums, counts, mean),
        num_tokens=total,
        num_sequences=len(sums),
        sums=tuple(sums),
    )


def _standard_error(sums: list[float], counts: list[int], mean: float) -> float | None:
    """Standard error of a ratio of sums (Cochran, Sampling Techniques, 6.4): sequences are the sampling unit."""
    n, total = len(sums), sum(counts)
    if n < 2:
        return None
    residuals = math.fsum((s - mean * c) ** 2 for s, c in zip(sums, counts, strict=True))
    return math.sqrt(n / (n - 1) * residuals) / total
