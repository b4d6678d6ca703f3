"""An optimizer that is not ours: what it holds, and one update of it on trial, taken back bit for bit."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor

from apr.base.files import canonical_json, sha256_bytes
from apr.stepzero.gate import GateResult, not_known, timed, verdict_of
from apr.stepzero.gates import optimizer_gate, optimizer_settings_gate
from apr.stepzero.guard_batches import LoopBatch
from apr.stepzero.reference import TRAINING_TOLERANCE
from apr.stepzero.rehearsal import ExpectedUpdate, Rehearsal

NOT_THE_MODULES = "a tensor that is not the module's"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What the loop means to do. What is None is read back, written down and not compared."""

    lr: float | None = None  # the highest of the schedule: what the optimizer was made with
    weight_decay: float | Callable[[str, Tensor], float] | None = (
        None  # of every tensor, or by name and tensor
    )
    betas: tuple[float, float] | None = None
    eps: float | None = None
    grad_clip: float = 0.0  # global norm; 0 for none
    frozen: tuple[str, ...] = ()  # names in the file, or patterns of them, that are not to be trained
    dropout: bool = False  # whether something random is meant to be active in training
    device: str | None = None
    dtype: str | None = None  # that the products are computed in: fp32, bf16

    def freezes(self, name: str) -> bool:
        """Whether a tensor is not to be trained."""
        return any(fnmatchcase(name, pattern) for pattern in self.frozen)

    def digest(self, parameters: Mapping[str, Tensor]) -> str:
        """SHA-256 over the plan, with the weight decay of each tensor."""
        values = {name: getattr(self, name) for name in self.__slots__}
        if callable(self.weight_decay):
            values["weight_decay"] = {
                name: float(self.weight_decay(name, v)) for name, v in parameters.items()
            }
        return sha256_bytes(canonical_json(values))


# --- what it holds ------------------------------------------------------------------------------


def inner_optimizer(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer itself, without what accelerate puts around it."""
    inner = getattr(optimizer, "optimizer", None)
    return inner if isinstance(inner, torch.optim.Optimizer) else optimizer


def settings_gate(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor], planned: Planned
) -> GateResult:
    """It updates exactly the tensors that are to be trained, each storage once, with the planned settings."""
    read_back = _read_back(optimizer, parameters)
    usual = next(iter(read_back.values()), {"weight_decay": 0.0})
    wanted: dict[str, tuple[float, ...]] = {}
    for name, value in parameters.items():
        if planned.freezes(name):
            continue
        held, asked = read_back.get(name, usual), _asked(planned, name, value)
        wanted[name] = tuple(held[key] if asked.get(key) is None else asked[key] for key in held)
    gate = optimizer_settings_gate(
        planned=wanted, read_back={name: tuple(values.values()) for name, values in read_back.items()}
    )
    compared = [name for name in ("weight_decay", "betas", "eps") if getattr(planned, name) is not None]
    return replace(
        gate,
        claim="it updates exactly the module's own tensors, with the settings that were planned",
        cause=_held_otherwise(wanted.keys(), read_back.keys()) or gate.cause,
        facts={**gate.facts, "compared": compared, "optimizer": type(optimizer).__name__},
    )


def _held_otherwise(wanted: Set[str], held: Set[str]) -> str:
    """What is wrong with the tensors that an optimizer has, whatever its settings of them."""
    if NOT_THE_MODULES in held:
        return "the optimizer holds tensors that are not the module's, such as copies of its parameters"
    if missing := sorted(wanted - held):
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        return f"the optimizer does not hold {missing[0]}{more}"
    if extra := sorted(held - wanted):
        return f"the optimizer holds {extra[0]}, which is not to be trained or is there already"
    return ""


def _asked(planned: Planned, name: str, value: Tensor) -> dict[str, Any]:
    decay = planned.weight_decay
    betas = planned.betas or (None, None)
    return {
        "weight_decay": decay(name, value) if callable(decay) else decay,
        "beta1": betas[0],
        "beta2": betas[1],
        "eps": planned.eps,
    }


def _read_back(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]
) -> dict[str, dict[str, float]]:
    """Weight decay, betas and epsilon by tensor, as far as the optimizer has them.

    A tensor is known by its storage: a copy of a parameter, trained in its place, shows under a name that none has.
    """
    names = {parameter.data_ptr(): name for name, parameter in parameters.items()}
    found: dict[str, dict[str, float]] = {}
    for group in optimizer.param_groups:
        values = {"weight_decay": group.get("weight_decay", 0.0), "eps": group.get("eps")}
        values |= dict(zip(("beta1", "beta2"), group.get("betas", ()), strict=False))
        order = ("weight_decay", "beta1", "beta2", "eps")
        numbers = {k: float(value) for k in order if isinstance(value := values.get(k), int | float | Tensor)}
        for parameter in group["params"]:
            name = names.get(parameter.data_ptr(), NOT_THE_MODULES)
            found[f"{name}, again" if name in found else name] = numbers
    return found


def peak_rates(optimizer: torch.optim.Optimizer) -> list[float]:
    """The rate that each group was made with, before a schedule changed it."""
    return [_rate(group.get("initial_lr", group.get("lr"))) for group in optimizer.param_groups]


def _rate(value: Any) -> float:
    return 0.0 if value is None else float(value)  # None: an optimizer that makes its own


def rate_gate(optimizer: torch.optim.Optimizer, planned: Planned) -> GateResult:
    """The learning rate is the planned one, and that of the first step lies between 0 and it."""
    claim = "the optimizer was made with the planned learning rate, and its first step's is not above it"
    peaks, held = peak_rates(optimizer), [_rate(group.get("lr")) for group in optimizer.param_groups]
    rates = {"planned": planned.lr, "made_with": peaks, "first_step": held}
    wrong = [rate for rate, peak in zip(held, peaks, strict=True) if not 0 <= rate <= peak * (1 + 1e-9)]
    cause = f"the optimizer holds a learning rate of {wrong[0]:.4g} for the first step" if wrong else ""
    if planned.lr is not None:
        off = [peak for peak in peaks if not math.isclose(peak, planned.lr, rel_tol=1e-9)]
        if off:
            cause = f"the optimizer was made with a learning rate of {off[0]:.4g}, and {planned.lr:.4g} was planned"
        wrong += off
    elif not wrong:
        reason = f"no learning rate was planned; the optimizer was made with {peaks[0]:.4g}"
        return replace(not_known("optimizer.schedule", claim, reason), facts={"reason": reason, **rates})
    return GateResult(
        id="optimizer.schedule",
        claim=claim,
        verdict=verdict_of(not wrong),
        figure=len(wrong),
        limit=0,
        cause=cause,
        facts={**rates, "not_known": "the rates after the first step: the schedule is the loop's own"},
    )


def fresh_gate(optimizer: torch.optim.Optimizer) -> GateResult:
    """Moments and step counts are zero."""
    states = list(optimizer.state.values())
    moments = [v for s in states for k, v in s.items() if k != "step" and isinstance(v, Tensor) and v.numel()]
    sizes = [float(moment.abs().max()) for moment in moments]
    greatest = math.nan if any(map(math.isnan, sizes)) else max(sizes, default=0.0)
    steps = max((float(state["step"]) for state in states if "step" in state), default=0.0)
    return optimizer_gate(num_state_tensors=len(moments), max_moment=greatest, max_step=steps)


# --- the update ---------------------------------------------------------------------------------


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
    with _kept(optimizer):
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
    held = _read_back(trial.optimizer, trial.parameters)
    decays = {name: values.get("weight_decay", 0.0) for name, values in held.items()}
    epsilons = {float(group["eps"]) for group in groups if "eps" in group}
    coupled = any(group.get("weight_decay") and not group.get("decoupled_weight_decay") for group in groups)
    reason = ""
    if kind not in (torch.optim.Adam, torch.optim.AdamW):
        reason = f"what a first step of {kind.__name__} must be is not known here, only that of AdamW"
    elif kind is torch.optim.Adam and coupled:
        reason = "Adam was given a weight decay, which it adds to the gradient: AdamW does not"
    elif len(epsilons) > 1:
        reason = "its groups have different epsilons"
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


@contextmanager
def _kept(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Give back an optimizer's groups and state as they were: the same tensors, with the same bits."""
    groups = [{k: _saved(v) for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    state = {key: {k: _saved(v) for k, v in held.items()} for key, held in optimizer.state.items()}
    called = vars(optimizer).get("_opt_called")  # a schedule's own note that a step was made
    try:
        yield
    finally:
        for group, saved in zip(optimizer.param_groups, groups, strict=True):
            params = group["params"]
            group.clear()
            group |= {"params": params, **{k: _restored(pair) for k, pair in saved.items()}}
        optimizer.state.clear()
        for key, held in state.items():
            optimizer.state[key] = {k: _restored(pair) for k, pair in held.items()}
        if called is None:
            vars(optimizer).pop("_opt_called", None)
        else:
            vars(optimizer)["_opt_called"] = called


def _saved(value: Any) -> tuple[Any, Any]:
    return value, value.detach().clone() if isinstance(value, Tensor) else copy.deepcopy(value)


def _restored(pair: tuple[Any, Any]) -> Any:
    value, before = pair
    if not isinstance(value, Tensor):
        return before
    with torch.no_grad():
        return value.copy_(before)
