"""An optimizer that is not ours: what it holds, against what the loop means to do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor

from apr.base.files import canonical_json, sha256_bytes
from apr.stepzero.gate import GateResult, not_known, verdict_of
from apr.stepzero.gates import optimizer_gate, optimizer_settings_gate

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


def inner_optimizer(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer itself, without what accelerate puts around it."""
    inner = getattr(optimizer, "optimizer", None)
    return inner if isinstance(inner, torch.optim.Optimizer) else optimizer


def settings_gate(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor], planned: Planned
) -> GateResult:
    """It updates exactly the tensors that are to be trained, each storage once, with the planned settings."""
    found = settings_of(optimizer, parameters)
    usual = next(iter(found.values()), {"weight_decay": 0.0})
    wanted: dict[str, tuple[float, ...]] = {}
    for name, value in parameters.items():
        if planned.freezes(name):
            continue
        held, asked = found.get(name, usual), _asked(planned, name, value)
        wanted[name] = tuple(held[key] if asked.get(key) is None else asked[key] for key in held)
    gate = optimizer_settings_gate(
        planned=wanted, read_back={name: tuple(values.values()) for name, values in found.items()}
    )
    compared = [name for name in ("weight_decay", "betas", "eps") if getattr(planned, name) is not None]
    return replace(
        gate,
        claim="it updates exactly the module's own tensors, with the settings that were planned",
        cause=_held_otherwise(wanted.keys(), found.keys()) or gate.cause,
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


def settings_of(
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
    makes_its_own = all(group.get("lr") is None for group in optimizer.param_groups)
    if not wrong and not makes_its_own and (dead := [peak for peak in peaks if not peak > 0]):
        wrong, cause = (
            dead,
            "one of its groups was made with a learning rate of zero, so nothing trains there",
        )
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
