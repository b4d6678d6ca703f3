"""One update of a loop that is not ours, on trial: made with its own loss and optimizer, judged, and taken back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from apr.stepzero.gate import GateResult, not_known, timed
from apr.stepzero.guard_batches import LoopBatch
from apr.stepzero.guard_kept import kept
from apr.stepzero.guard_optimizer import Planned, peak_rates, settings_of
from apr.stepzero.reference import TRAINING_TOLERANCE
from apr.stepzero.rehearsal import ExpectedUpdate, Rehearsal


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What an update is made of."""

    parameters: Mapping[str, Tensor]
    optimizer: torch.optim.Optimizer
    planned: Planned
    loss: Callable[[LoopBatch], Tensor]
    batches: Sequence[LoopBatch]
    num_targets: Sequence[int]  # of each batch
    original: Callable[[str], Tensor]
    dtype: str  # that products are computed in
    # Loss of the same tokens in fp32, by other code than the loop's; None where there is none, and why.
    measured: Callable[[], float] | None
    unmeasured: str = ""


def rehearse(trial: Trial) -> list[GateResult]:
    """Make an update at the highest rate of the schedule, judge it, and take it back bit for bit."""
    if early := _before(trial):
        return [early]
    parameters, optimizer = trial.parameters, trial.optimizer
    trainable = frozenset(name for name in parameters if not trial.planned.freezes(name))
    rehearsal = Rehearsal(
        parameters=parameters, optimizer=optimizer, original=trial.original, trainable=trainable
    )
    rate, norms, losses = max(peak_rates(optimizer)), [], []

    def update() -> None:
        losses.append(_accumulate(trial))
        if trial.planned.grad_clip > 0:
            held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            norms.append(float(torch.nn.utils.clip_grad_norm_(held, trial.planned.grad_clip)))
        optimizer.step()
        _drop_gradients(trial)

    def first() -> GateResult:
        rehearsal.carry_out(update)
        return rehearsal.gradients_gate()

    norm = None
    with kept(optimizer):
        _set_rates(optimizer, rate)
        try:
            found = [timed(first)]
            norm = norms[0] if norms else None
            if found[0].verdict == "yes":
                found.append(timed(lambda: rehearsal.changes_gate(rate)))
            if found[-1].verdict == "yes":
                found.append(timed(lambda: _size(rehearsal, trial, rate, norm)))
        finally:
            rehearsal.undo()
    if any(gate.verdict == "no" for gate in found):
        return found
    return [
        *found,
        timed(lambda: _loss(rehearsal, trial, losses[0])),
        timed(lambda: _slope(rehearsal, trial, norm)),
    ]


def _before(trial: Trial) -> GateResult | None:
    """What is wrong before anything was computed."""
    named = [(name, value) for name, value in trial.parameters.items() if not trial.planned.freezes(name)]
    frozen = [name for name, value in named if not value.requires_grad]
    left = [name for name, value in named if value.grad is not None and bool(value.grad.any())]
    if not frozen and not left:
        return None
    cause = f"{left[0]} has a gradient from before, which the first step would add to its own" if left else ""
    if frozen:
        more = f" and {len(frozen) - 1} more are" if frozen[1:] else " is"
        cause = f"{frozen[0]}{more} frozen, and the plan does not say so"
    return GateResult(
        id="update.gradients", claim="every trainable tensor has a finite gradient that is not zero, used once",
        verdict="no", figure=len(frozen or left), limit=0, cause=cause,
    )  # fmt: skip


def _accumulate(trial: Trial) -> float:
    """Gradients of the mean loss over all targets; returns it."""
    _drop_gradients(trial)
    total, sums = sum(trial.num_targets), 0.0
    for batch, count in zip(trial.batches, trial.num_targets, strict=True):
        loss = trial.loss(batch) * (count / total)
        loss.backward()
        sums += float(loss.detach())
    return sums


def _drop_gradients(trial: Trial) -> None:
    held = (parameter for group in trial.optimizer.param_groups for parameter in group["params"])
    for parameter in (*trial.parameters.values(), *held):
        parameter.grad = None


def _size(rehearsal: Rehearsal, trial: Trial, rate: float, norm: float | None) -> GateResult:
    """Judge the size where it is known exactly: of a first step of AdamW."""
    groups, kind = trial.optimizer.param_groups, type(trial.optimizer)
    held = settings_of(trial.optimizer, trial.parameters)
    decays = {name: values.get("weight_decay", 0.0) for name, values in held.items()}
    coupled = any(group.get("weight_decay") and not group.get("decoupled_weight_decay") for group in groups)
    reason = ""
    if kind not in (torch.optim.Adam, torch.optim.AdamW):
        reason = f"what a first step of {kind.__name__} must be is not known here, only that of AdamW"
    elif kind is torch.optim.Adam and coupled:
        reason = "Adam was given a weight decay, which it adds to the gradient: AdamW does not"
    epsilons = set() if reason else {float(group["eps"]) for group in groups}
    if len(epsilons) > 1:
        reason = "its groups have different epsilons"
    if reason and (uphill := rehearsal.uphill_gate(trial.optimizer)) is not None:
        return uphill
    if reason:
        claim = "every element moves as learning rate, weight decay and clipped gradient imply"
        return not_known("update.size", claim, reason)
    expected = ExpectedUpdate(
        lr=rate, eps=epsilons.pop(), weight_decay=decays, grad_clip=trial.planned.grad_clip
    )
    return rehearsal.size_gate(expected, norm)


def _loss(rehearsal: Rehearsal, trial: Trial, reported: float) -> GateResult:
    claim = "the loop's loss of some tokens is their cross-entropy"
    if trial.measured is None:
        return not_known("update.loss", claim, trial.unmeasured)
    gate = rehearsal.loss_gate(reported, trial.measured, TRAINING_TOLERANCE[trial.dtype])
    told = {"reported": reported, "measured": gate.facts["measured"]}
    cause = "the loop's loss of some tokens is {reported:.4f} nats, and their cross-entropy {measured:.4f}"
    return replace(gate, claim=claim, cause=gate.cause and cause.format(**told))


def _slope(rehearsal: Rehearsal, trial: Trial, norm: float | None) -> GateResult:
    if trial.measured is None:
        claim = "the gradient is the slope of the loss, for each group of tensors"
        return not_known("update.slope", claim, trial.unmeasured)
    return rehearsal.slope_gate(trial.measured, trial.dtype, norm)


def _set_rates(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group.get("lr"), Tensor):
            group["lr"].fill_(rate)
        elif group.get("lr") is not None:
            group["lr"] = rate
