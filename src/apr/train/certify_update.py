"""The rehearsal of a run's first update, with the loop's own code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from apr.data.batches import Batch, BatchStream
from apr.data.windows import IGNORED_TARGET
from apr.model.adapters import loss_sum
from apr.model.decoder import Decoder
from apr.model.load import stored_tensor
from apr.stepzero.gate import GateResult, timed
from apr.stepzero.reference import TRAINING_TOLERANCE
from apr.stepzero.rehearsal import ExpectedUpdate, Rehearsal
from apr.train.device import Compute
from apr.train.errors import NotFinite
from apr.train.inputs import InitFile
from apr.train.loop import Update, make_update
from apr.train.optimizer import EPSILON, set_learning_rate
from apr.train.plan import RunPlan

REHEARSAL_TOKENS = 32  # of the first micro-batch; the second has half of them


def rehearse(
    decoder: Decoder,
    optimizer: torch.optim.AdamW,
    stream: BatchStream,
    plan: RunPlan,
    compute: Compute,
    init: InitFile | None,
    trainable: frozenset[str] | None = None,
) -> list[GateResult]:
    """Make the first update on a few of its tokens, judge it, and take it back.

    Two micro-batches of unequal length, so that an accumulation that weighs them alike shows; at the highest learning
    rate of the plan, so that the update is well above the rounding of the weights.

    Args:
        trainable: names that are trained; None for all.
    """
    parameters: dict[str, Tensor] = dict(decoder.named_parameters())
    batches = _rehearsal_batches(stream)
    step = min(plan.warmup_steps, plan.num_steps - 1) + 1
    rehearsal = Rehearsal(
        parameters=parameters,
        optimizer=optimizer,
        original=_original(parameters, init),
        trainable=frozenset(parameters) if trainable is None else trainable,
        dense=dense_names(parameters, decoder.config.vocab_size),
    )
    made: list[Update] = []
    expected = ExpectedUpdate(
        lr=plan.learning_rate(step - 1),
        eps=EPSILON,
        weight_decay={name: plan.weight_decay if p.dim() > 1 else 0.0 for name, p in parameters.items()},
        grad_clip=plan.grad_clip,
    )

    def update() -> None:
        try:
            made.append(make_update(decoder, optimizer, batches, step, plan, compute))
        except NotFinite as error:
            error.step = 1  # it is the first that is rehearsed, with another's learning rate
            raise

    def first() -> GateResult:
        rehearsal.carry_out(update)
        return rehearsal.gradients_gate()

    try:
        found = [timed(first)]
        if found[0].verdict == "yes":
            found += [
                timed(lambda: rehearsal.changes_gate(expected.lr)),
                timed(lambda: rehearsal.size_gate(expected, made[0].grad_norm)),
            ]
    finally:
        rehearsal.undo()
        set_learning_rate(optimizer, plan.learning_rate(0))
    if all(gate.verdict == "yes" for gate in found):
        score, together = loss_sum(decoder, torch.float32), _padded(batches)

        def loss() -> float:
            return score(*together) / sum(batch.num_target_tokens for batch in batches)

        limit = TRAINING_TOLERANCE[compute.dtype_name]
        found.append(timed(lambda: rehearsal.loss_gate(made[0].train_loss, loss, limit)))
        found.append(timed(lambda: rehearsal.slope_gate(loss, compute.dtype_name, made[0].grad_norm)))
    return found


def dense_names(parameters: Mapping[str, Tensor], vocab_size: int) -> frozenset[str]:
    """Tensors whose gradients hold no zeros: matrices that no token picks rows of.

    Not vectors: what a bias of the keys does nearly cancels in the softmax, in bf16 to exact zeros (Qwen's had 3 %).
    """
    return frozenset(
        name for name, value in parameters.items() if value.dim() > 1 and vocab_size not in value.shape
    )


def _padded(batches: list[Batch]) -> tuple[Tensor, ...]:
    """All rows in one batch: one pass over the weights instead of one for each micro-batch."""
    length = max(batch.inputs_BT.shape[1] for batch in batches)

    def together(rows: Iterable[Tensor], value: int) -> Tensor:
        return torch.cat([F.pad(row, (0, length - row.shape[1]), value=value) for row in rows])

    # inputs, targets and, with a document mask, documents
    columns = zip(*(batch.scored for batch in batches), strict=True)
    return tuple(together(rows, value) for rows, value in zip(columns, (0, IGNORED_TARGET, 0), strict=False))


def _original(parameters: dict[str, Tensor], init: InitFile | None) -> Callable[[str], Tensor]:
    """Where the weights can be had again: from the mapped file, or else from a copy."""
    packed = {
        name: value.detach().clone()
        for name, value in parameters.items()
        if init is None or name not in init.file.entries or _is_packed(init.file.entries[name].dtype)
    }

    @cache
    def view(name: str) -> Tensor:
        assert init is not None
        return stored_tensor(init.file, name)

    return lambda name: packed[name] if name in packed else view(name)


def _is_packed(dtype: str) -> bool:
    return dtype not in ("F32", "F16", "BF16")


def _rehearsal_batches(stream: BatchStream) -> list[Batch]:
    """Two micro-batches from the run's first batch, one row each, of unequal length."""
    start = stream.cursor
    batch = stream.next_batch()
    stream.cursor = start
    fullest = int((batch.targets_BT != IGNORED_TARGET).sum(dim=1).argmax())
    length = min(REHEARSAL_TOKENS, int((batch.targets_BT[fullest] != IGNORED_TARGET).sum()))
    half = max(1, length // 2)
    row = slice(fullest, fullest + 1)
    parts = [
        (batch.inputs_BT[row, :length], batch.targets_BT[row, :length]),
        (batch.inputs_BT[row, length - half : length], batch.targets_BT[row, length - half : length]),
    ]
    # A few tokens seldom hold a boundary, and a mask that the loop forgot shows only behind one.
    return [
        Batch(
            inputs_BT=inputs,
            targets_BT=targets,
            num_target_tokens=int((targets != IGNORED_TARGET).sum()),
            window_indices=batch.window_indices[row],
            documents_BT=None if batch.documents_BT is None else _two_documents(inputs),
        )
        for inputs, targets in parts
    ]


def _two_documents(inputs_BT: Tensor) -> Tensor:
    """The first half of a row as one document, the second as another, wherever its text is cut: i32 [B, T]."""
    second = torch.arange(inputs_BT.shape[1], dtype=torch.int32) >= inputs_BT.shape[1] // 2
    return second.to(torch.int32).expand(inputs_BT.shape)
