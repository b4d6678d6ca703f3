"""The batches of another program's loop: what they hold, and what may be asked of them.

Two conventions of labels are in use, and mixing them trains on the second next token or on the input itself without a
sign: Hugging Face's labels are the input ids, which the model's own loss shifts; nanoGPT's are shifted already.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from apr.base.files import sha256_bytes
from apr.evals.loss import EvalLoss, LossSum
from apr.stepzero.gate import GateResult, verdict_of
from apr.stepzero.gates import BAND_LOW_SHARE, FINETUNE_LOSS_LIMIT, outside_band, unigram_entropy

IGNORED = -100
# Tokens. In fewer, most ids occur once, and their entropy says how many there are, not what a table of counts knows.
_ENOUGH_FOR_COUNTS = 4096
REHEARSAL_TARGETS = 32  # of a micro-batch
_MAX_TOKENS = 4096  # in the loss before step 1: beyond one sequence or two it only costs time


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopBatch:
    """A batch as the loop gives it to its loss, and the two tensors in it that are looked at: int64 [B, T]."""

    given: Any
    ids_BT: Tensor
    labels_BT: Tensor

    def pairs(self, labels_shifted: bool) -> tuple[Tensor, Tensor]:
        """Inputs and the token that follows each, -100 where none is predicted: int64 [B, T] or [B, T-1]."""
        if labels_shifted:
            return self.ids_BT, self.labels_BT
        return self.ids_BT[:, :-1], self.labels_BT[:, 1:]

    def num_targets(self, labels_shifted: bool) -> int:
        """Tokens that are predicted."""
        return int((self.pairs(labels_shifted)[1] >= 0).sum())

    @property
    def is_plain(self) -> bool:
        """Whether the ids alone say what is computed: no padding on the left, no packed positions."""
        if not isinstance(self.given, Mapping):
            return True
        mask = self.given.get("attention_mask")
        if mask is not None and (mask.dim() != 2 or bool((mask[:, 1:] > mask[:, :-1]).any())):
            return False
        return "position_ids" not in self.given


def read_batch(given: Any) -> LoopBatch:
    """Find ids and labels in a batch: a mapping with `input_ids` and `labels`, or a pair."""
    ids, labels = (given["input_ids"], given["labels"]) if isinstance(given, Mapping) else given[:2]
    return LoopBatch(given=given, ids_BT=ids, labels_BT=labels)


def batches_digest(batches: Sequence[LoopBatch]) -> str:
    """SHA-256 over ids and labels."""
    tensors = (tensor for batch in batches for tensor in (batch.ids_BT, batch.labels_BT))
    return sha256_bytes(*(tensor.cpu().contiguous().numpy().tobytes() for tensor in tensors))


def short_batch(batch: LoopBatch, labels_shifted: bool) -> LoopBatch:
    """Cut a batch to the row with the most targets and to its first REHEARSAL_TARGETS of them."""
    counts = (batch.pairs(labels_shifted)[1] >= 0).sum(dim=1)
    row = int(counts.argmax())
    at = (batch.labels_BT[row] >= 0).nonzero()[:, 0]
    length = int(at[min(len(at) - 1, REHEARSAL_TARGETS)]) + 1
    rows, width = batch.ids_BT.shape

    def cut(value: Any) -> Any:
        return _cut(value, rows, width, row, length) if isinstance(value, Tensor) else value

    if isinstance(batch.given, Mapping):
        return read_batch({key: cut(value) for key, value in batch.given.items()})
    return read_batch(tuple(cut(value) for value in batch.given))


def _cut(value: Tensor, rows: int, width: int, row: int, length: int) -> Tensor:
    """Cut what goes with the ids: [B, T, ...], positions [1, T], masks [B or 1, heads or 1, T, T], weights [B]."""
    if value.dim() and value.shape[0] == rows:
        value = value[row : row + 1]
    if value.dim() == 4 and value.shape[-2:] == (width, width):
        value = value[:, :, :length, :length]
    elif value.dim() > 1 and value.shape[:2] == (1, width):
        value = value[:, :length]
    return value.clone()


def probe_batch(like: LoopBatch, ids: Sequence[int], labels_shifted: bool) -> LoopBatch:
    """The probe as a batch of the loop's kind, on the device of its batches."""
    whole = torch.tensor([list(ids)], dtype=torch.int64, device=like.ids_BT.device)
    inputs, labels = (whole[:, :-1], whole[:, 1:]) if labels_shifted else (whole, whole.clone())
    if not isinstance(like.given, Mapping):
        return read_batch((inputs, labels))
    more: dict[str, Tensor] = {}
    if "attention_mask" in like.given:
        more["attention_mask"] = torch.ones_like(inputs)
    if "position_ids" in like.given:
        more["position_ids"] = torch.arange(inputs.shape[1], device=inputs.device)[None]
    return read_batch({"input_ids": inputs, "labels": labels, **more})


def cross_entropy_sum(forward: Callable[[Tensor], Tensor]) -> LossSum:
    """Make the function (inputs, targets) -> summed cross-entropy of a forward pass, in nats."""

    def score(inputs_BT: Tensor, targets_BT: Tensor) -> float:
        with torch.no_grad():
            logits = forward(inputs_BT)
            return float(_entropy(logits, targets_BT, "sum"))

    return score


def cross_entropy_of(
    forward: Callable[[Tensor], Tensor], labels_shifted: bool
) -> Callable[[LoopBatch], Tensor]:
    """Make the loss of a loop that was given none: mean next-token cross-entropy, with its gradient."""

    def loss(batch: LoopBatch) -> Tensor:
        inputs, targets = batch.pairs(labels_shifted)
        return _entropy(forward(inputs), targets, "mean")

    return loss


def _entropy(logits_BTV: Tensor, targets_BT: Tensor, reduction: str) -> Tensor:
    targets = targets_BT.reshape(-1).to(logits_BTV.device)
    return F.cross_entropy(
        logits_BTV.float().flatten(0, 1), targets, ignore_index=IGNORED, reduction=reduction
    )


def labels_gate(batches: Sequence[LoopBatch], labels_shifted: bool) -> GateResult:
    """The labels are the inputs' own tokens, in the convention that the loop's loss expects.

    Args:
        batches: the first ones.
        labels_shifted: whether the label at a position is the token after it (nanoGPT), and not the token there
            (Hugging Face).
    """
    wrong = sum(_num_differing(batch, labels_shifted) for batch in batches)
    odd = sum(int(((batch.labels_BT < 0) & (batch.labels_BT != IGNORED)).sum()) for batch in batches)
    targets = sum(batch.num_targets(labels_shifted) for batch in batches)
    padded = sum(_num_padded(batch) for batch in batches)
    cause = ""
    if wrong and not sum(_num_differing(batch, not labels_shifted) for batch in batches):
        cause = (
            "the labels are the input ids, and a loss that does not shift them learns to repeat its input"
            if labels_shifted
            else "the labels are shifted by one token already, and a loss that shifts them again learns the second next"
        )
    elif wrong:
        cause = f"{wrong} labels are not the tokens of their inputs"
    elif odd:
        cause = f"{odd} labels are negative and not {IGNORED}"
    elif padded:
        cause = f"{padded} labels stand where the attention mask says padding, so padding is learned"
    elif not targets:
        cause = "no label is left to learn from"
    return GateResult(
        id="data.labels",
        claim="the labels of the first batches are the tokens that follow their inputs, shifted once",
        verdict=verdict_of(not cause),
        figure=wrong + odd + padded if targets else "none",
        limit=0,
        cause=cause,
        facts={"num_batches": len(batches), "num_targets": targets, "labels_shifted": labels_shifted},
    )


def _num_differing(batch: LoopBatch, labels_shifted: bool) -> int:
    ids, labels = batch.ids_BT, batch.labels_BT.to(batch.ids_BT.device)
    if labels_shifted:
        ids, labels = ids[:, 1:], labels[:, :-1]
    return int(((ids != labels) & (labels >= 0)).sum())


def first_loss_gate(
    *, step0: EvalLoss, counts_V: np.ndarray, vocab_size: int, has_reference: bool
) -> GateResult:
    """The loss of the first batches is what a checkpoint can give: too good is as wrong as too bad.

    With a reference the weights are proven elsewhere, and the upper limit is INV-TRAIN-005's. Without one the model
    must know more than the vocabulary's size, and more than a table of counts where there are tokens enough to count.
    """
    entropy = unigram_entropy(counts_V)
    # Plug-in estimates are low (Miller 1955): by (kinds - 1) / 2N.
    entropy += (int((counts_V > 0).sum()) - 1) / (2 * max(1, int(counts_V.sum())))
    low, high = BAND_LOW_SHARE * entropy, FINETUNE_LOSS_LIMIT
    if not has_reference:
        high = min(high, math.log(vocab_size) - 1.0)
        high = min(high, entropy) if counts_V.sum() >= _ENOUGH_FOR_COUNTS else high
    cause = outside_band(step0.loss, low, high)
    return GateResult(
        id="loss.step0",
        claim="the loss of the first batches, before step 1, is inside its limits",
        verdict=verdict_of(not cause),
        figure=step0.loss,
        limit=f"{low:.3f} to {high:.3f}",
        cause=cause,
        facts={
            "standard_error": step0.standard_error,
            "num_tokens": step0.num_tokens,
            "unigram_entropy": entropy,
            "unit": "nats per token",
        },
    )


def rows_of(batch: LoopBatch, labels_shifted: bool) -> list[tuple[Tensor, Tensor]]:
    """Each row that predicts something, alone."""
    inputs, targets = batch.pairs(labels_shifted)
    rows = (slice(number, number + 1) for number in range(inputs.shape[0]))
    return [(inputs[row], targets[row]) for row in rows if bool((targets[row] >= 0).any())]


def first_rows(pairs: Sequence[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """The first pairs, up to _MAX_TOKENS, but one at least."""
    kept: list[tuple[Tensor, Tensor]] = []
    total = 0
    for pair in pairs:
        if kept and total + pair[0].numel() > _MAX_TOKENS:
            break
        kept.append(pair)
        total += pair[0].numel()
    return kept


def _num_padded(batch: LoopBatch) -> int:
    """Labels that would be learned although a mask [B, T] says that there is nothing."""
    mask = batch.given.get("attention_mask") if isinstance(batch.given, Mapping) else None
    if not isinstance(mask, Tensor) or mask.shape != batch.labels_BT.shape:
        return 0
    return int(((mask == 0) & (batch.labels_BT >= 0)).sum())
