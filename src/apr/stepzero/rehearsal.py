"""The first update, rehearsed before it counts: made with the run's own code, judged, and taken back bit for bit.

What AdamW does to a fresh parameter is known exactly (Loshchilov and Hutter 2019, arXiv:1711.05101): with zero moments
the bias corrections cancel, and p becomes p (1 - lr wd) - lr g / (|g| + eps). So one update tells whether rate, decay
and epsilon are those asked for, on every element of every tensor. That g is the slope of the loss is asked of the loss
itself: it is measured a little up and a little down along g, for each group of tensors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from apr.stepzero.gate import GateResult, verdict_of

_PIECE = 1 << 22  # elements
MAX_ZERO_SHARE = 0.01  # of a matrix's gradient; SmolLM2 and Qwen 0.5B have 1e-6 in fp32, 9e-4 in bf16
UPDATE_TOLERANCE = 0.02  # of the learning rate, beyond one rounding of the parameter
CLIP_TOLERANCE = 1e-3  # relative
SLOPE_TOLERANCE = {"fp32": 0.05, "bf16": 0.2}  # relative; LOG.md: "Is the gradient the slope of the loss"
# Nats that the loss moves between two measurements, if it is as steep as the gradient says. A large model needs much,
# or the step drowns in the rounding of its weights. The loss of a small one that knows its text may bend within so
# much: then it is measured closer by, and both measurements must agree with the gradient.
_SLOPE_GAIN = 0.02
_CLOSER_GAINS = (0.005, 0.00125)
_LARGEST_STEP = 0.05  # of a tensor's own norm
_LAYER = re.compile(r"\.\d+\.")
# Tensors whose gradients pass through the same code; two forward passes are spent on each group. A name that none knows
# makes a group of its kind.
_GROUPS = (
    ("the adapters' A", re.compile(r"\.adapter\.a$")),  # before the projections, whose names they have too
    ("the adapters' B", re.compile(r"\.adapter\.b$")),
    ("queries and keys", re.compile(r"\.[qk]_proj\.")),
    ("values and attention outputs", re.compile(r"\.[vo]_proj\.")),
    ("the feed-forward", re.compile(r"\.mlp\.")),
    ("the norms", re.compile(r"norm")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedUpdate:
    """What an AdamW update must be."""

    lr: float
    eps: float
    weight_decay: Mapping[str, float]  # by name
    grad_clip: float  # global norm; 0 for none


@dataclass(kw_only=True)
class _Seen:
    """What the optimizer was given at its steps."""

    num_steps: int = 0
    gradients: dict[str, Tensor] = field(default_factory=dict)
    norms: dict[str, float] = field(default_factory=dict)

    @property
    def global_norm(self) -> float:
        return math.sqrt(math.fsum(norm * norm for norm in self.norms.values()))


class Rehearsal:
    """One update on trial. Its gates are asked in the order of the methods; `undo` comes last and always."""

    def __init__(
        self,
        *,
        parameters: Mapping[str, Tensor],
        optimizer: torch.optim.Optimizer,
        original: Callable[[str], Tensor],
        trainable: frozenset[str],
        dense: frozenset[str] = frozenset(),
    ) -> None:
        """Prepare.

        Args:
            parameters: every parameter of the module, by name, each storage once.
            optimizer: fresh.
            original: gives the values that a parameter has now, as long as the rehearsal lasts; of any type that
                widens to the parameter's without loss.
            trainable: names that the update must change; the others must stay.
            dense: those of them whose gradients hold no zeros, by the kind of model: not an embedding, of which only
                the rows of the tokens at hand get any, and nothing behind a ReLU.
        """
        self._parameters, self._optimizer, self._original = parameters, optimizer, original
        self._trainable, self._dense = trainable, dense
        self._seen = _Seen()

    def carry_out(self, update: Callable[[], Any]) -> None:
        """Make the update, noting what gradients the optimizer is given."""
        by_storage = {value.data_ptr(): name for name, value in self._parameters.items()}

        def note(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
            self._seen.num_steps += 1
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    name = by_storage.get(parameter.data_ptr())
                    if name is not None and parameter.grad is not None:
                        # A reference, not a copy: the gradients of a large model are as large as it is.
                        self._seen.gradients[name] = parameter.grad.detach()
            names = list(self._seen.gradients)
            norms = torch._foreach_norm([self._seen.gradients[name] for name in names]) if names else []
            self._seen.norms = {name: float(norm) for name, norm in zip(names, norms, strict=True)}

        handle = self._optimizer.register_step_pre_hook(note)
        try:
            update()
        finally:
            handle.remove()

    def gradients_gate(self) -> GateResult:
        """Every trainable tensor has a finite gradient that is not zero, and none is left behind for the next step."""
        names = sorted(self._trainable)
        without = [name for name in names if name not in self._seen.norms]
        infinite = [name for name in names if not math.isfinite(self._seen.norms.get(name, 0.0))]
        flat = [name for name in names if self._seen.norms.get(name) == 0.0]
        zeros = self._shares_of_zero()
        holed = [name for name, share in zeros.items() if share > MAX_ZERO_SHARE]
        left = [name for name, value in self._parameters.items() if _is_left(value)]
        cause = ""
        if self._seen.num_steps != 1:
            cause = f"one update made {self._seen.num_steps} optimizer steps"
        elif without:
            cause = f"{_some(without)} no gradient, so nothing trains there"
        elif infinite:
            cause = f"{_some(infinite)} a gradient that is NaN or infinite"
        elif flat:
            cause = f"{_some(flat)} a gradient of zero"
        elif holed:
            cause = f"{_some(holed)} a gradient that is exactly zero in {zeros[holed[0]]:.1%} of its elements"
        elif left:
            cause = f"{_some(left)} the gradient of this update left over for the next"
        wrong = len({*without, *infinite, *flat, *holed, *left}) + (self._seen.num_steps != 1)
        return GateResult(
            id="update.gradients",
            claim="every trainable tensor has a finite gradient that is not zero, used once",
            verdict=verdict_of(not cause),
            figure=wrong,
            limit=0,
            cause=cause,
            facts={
                "num_trainable": len(names),
                "global_norm": self._seen.global_norm,
                "max_zero_share": max(zeros.values(), default=None),
            },
        )

    def _shares_of_zero(self) -> dict[str, float]:
        """A gradient that is masked is the slope along itself: only its zeros show it."""
        return {
            name: 1 - float(torch.count_nonzero(gradient)) / gradient.numel()
            for name, gradient in sorted(self._seen.gradients.items())
            if name in self._dense
        }

    def changes_gate(self, lr: float) -> GateResult:
        """Every trainable tensor changed, and every frozen one is as it was.

        Args:
            lr: learning rate of the update; AdamW's first step moves no element further.
        """
        same, moved = [], []
        for name, value in self._parameters.items():
            changed = any(not torch.equal(new, old) for new, old in self._pieces(name, value))
            if name in self._trainable and not changed:
                same.append(name)
            if name not in self._trainable and changed:
                moved.append(name)
        cause = ""
        if same:
            cause = f"the update left {same[0]} as it was" + (
                f", and {len(same) - 1} more" if same[1:] else ""
            )
            if lr <= self._rounding(same[0]):
                cause += f": a step of {lr:.3g} is lost in the rounding of its values, so nothing would train there"
        elif moved:
            cause = f"the update changed {moved[0]}, which is frozen"
        return GateResult(
            id="update.changes",
            claim="the update changes every trainable tensor and no other",
            verdict=verdict_of(not cause),
            figure=len(self._trainable) - len(same) + len(moved),
            limit=len(self._trainable),
            cause=cause,
            facts={"num_frozen": len(self._parameters) - len(self._trainable)},
        )

    def _rounding(self, name: str) -> float:
        """What rounding may take of a step in the tensor's smallest value."""
        value = self._parameters[name].detach()
        return float(value.abs().min()) * torch.finfo(value.dtype).eps

    def size_gate(self, expected: ExpectedUpdate, reported_norm: float | None = None) -> GateResult:
        """Every element moved as AdamW's first step implies, and the gradient was clipped as asked.

        Args:
            expected: what was asked for.
            reported_norm: the global norm before clipping, as the loop reports it; None where nothing does.
        """
        worst, where, norm = 0.0, "", self._seen.global_norm
        for name in sorted(self._trainable & self._seen.gradients.keys()):
            gap = self._worst_gap(name, expected)
            if not gap <= worst:
                worst, where = gap, name
        cause = ""
        if expected.grad_clip > 0 and not norm <= expected.grad_clip * (1 + CLIP_TOLERANCE):
            cause = f"the gradient was not clipped: its norm is {norm:.4g} at the step, above {expected.grad_clip:g}"
        elif reported_norm is not None and (told := _clip_defect(norm, reported_norm, expected.grad_clip)):
            cause = told
        elif not worst <= UPDATE_TOLERANCE:
            cause = (
                f"{where} moved otherwise than the learning rate {expected.lr:.3g}, the weight decay and the "
                "gradient imply"
            )
        return GateResult(
            id="update.size",
            claim="every element moves as learning rate, weight decay and clipped gradient imply",
            verdict=verdict_of(not cause),
            figure=worst,
            limit=UPDATE_TOLERANCE,
            cause=cause,
            facts={
                "unit": "of the learning rate, beyond rounding",
                "lr": expected.lr,
                "norm_at_step": norm,
                "norm_before_clipping": reported_norm,
                "grad_clip": expected.grad_clip,
            },
        )

    def uphill_gate(self, optimizer: torch.optim.Optimizer) -> GateResult | None:
        """A no where the update went up the gradient, which no optimizer means to; None where it went down."""
        along = 0.0
        for name in sorted(self._trainable & self._seen.gradients.keys()):
            gradient = self._seen.gradients[name].reshape(-1)
            for start, (new, old) in enumerate(self._pieces(name, self._parameters[name])):
                part = gradient[start * _PIECE : start * _PIECE + new.numel()].to(new.dtype)
                along += float(((new - old).double() * part.double()).sum())
        if along <= 0:
            return None
        return GateResult(
            id="update.size",
            claim="the update goes down the gradient",
            verdict="no",
            figure=along,
            limit=0,
            cause=f"the first step of {type(optimizer).__name__} goes up the gradient, so the loss would grow",
        )

    def _worst_gap(self, name: str, expected: ExpectedUpdate) -> float:
        worst = 0.0
        gradient = self._seen.gradients[name].reshape(-1)
        decay = 1 - expected.lr * expected.weight_decay.get(name, 0.0)
        for start, (new, old) in enumerate(self._pieces(name, self._parameters[name])):
            part = gradient[start * _PIECE : start * _PIECE + new.numel()].to(new.dtype)
            implied = old * decay - expected.lr * part / (part.abs() + expected.eps)
            rounding = torch.finfo(new.dtype).eps * old.abs()
            gap = ((new - implied).abs() - rounding).max() / expected.lr
            worst = max(worst, float(gap)) if not math.isnan(float(gap)) else math.inf
        return worst

    def undo(self) -> None:
        """Take the update back: parameters, moments and gradients are as before."""
        with torch.no_grad():
            for name, value in self._parameters.items():
                value.copy_(self._original(name).reshape(value.shape))
                value.grad = None
        self._optimizer.state.clear()

    def slope_gate(
        self, loss: Callable[[], float], dtype: str, norm_before_clipping: float | None = None
    ) -> GateResult:
        """The gradient is the slope of the loss, for each group of tensors; asked after `undo`.

        Args:
            loss: the mean loss on the tokens of the update, in nats, computed in fp32 by other code than the loop's.
            dtype: compute type that the gradient was taken in.
            norm_before_clipping: global norm, where the gradient was clipped.
        """
        limit = SLOPE_TOLERANCE[dtype]
        shrunk = 1.0
        if norm_before_clipping and self._seen.global_norm:
            shrunk = self._seen.global_norm / norm_before_clipping
        measured = {
            group: self._slopes(names, loss, shrunk, limit) for group, names in self._groups().items()
        }
        gaps = {group: abs(found / implied - 1) for group, (implied, found) in measured.items()}
        worst = max(gaps, key=lambda group: math.inf if math.isnan(gaps[group]) else gaps[group], default="")
        figure = gaps.get(worst, math.inf)
        cause = ""
        if not figure <= limit:
            implied, found = measured.get(worst, (0.0, 0.0))
            cause = (
                f"the gradient of {worst or 'every tensor'} is not the slope of the loss: "
                f"it says {implied:.4g}, and {found:.4g} was measured"
            )
        return GateResult(
            id="update.slope",
            claim="the gradient is the slope of the loss, for each group of tensors",
            verdict=verdict_of(not cause),
            figure=figure,
            limit=limit,
            cause=cause,
            facts={"groups": gaps, "unit": "relative"},
        )

    def loss_gate(self, reported: float, loss: Callable[[], float], limit: float) -> GateResult:
        """The loss that the loop logs is the loss of its tokens; asked after `undo`.

        Args:
            reported: of the update, as the loop gives it, nats per token.
            loss: as for `slope_gate`.
            limit: nats that the compute type may cost.
        """
        measured = loss()
        gap = abs(reported - measured)
        return GateResult(
            id="update.loss",
            claim="the loss that the loop logs is that of its tokens",
            verdict=verdict_of(gap <= limit),
            figure=gap,
            limit=limit,
            cause=""
            if gap <= limit
            else f"the loop logs a loss of {reported:.4f} nats for tokens whose loss is {measured:.4f}",
            facts={"reported": reported, "measured": measured, "unit": "nats per token"},
        )

    def _groups(self) -> dict[str, list[str]]:
        groups: dict[str, list[str]] = {}
        for name in sorted(self._trainable):
            if self._seen.norms.get(name):
                kind = _LAYER.sub(".*.", name)
                group = next((group for group, pattern in _GROUPS if pattern.search(name)), kind)
                groups.setdefault(group, []).append(name)
        return groups

    def _slopes(
        self, names: list[str], loss: Callable[[], float], shrunk: float, limit: float
    ) -> tuple[float, float]:
        """The slope along the gradients of a group, as they say and as measured."""
        implied = math.fsum(self._seen.norms[name] for name in names) / shrunk

        def gap(measured: float) -> float:
            return math.inf if math.isnan(measured) else abs(measured / implied - 1)

        found = self._slope(names, loss, _SLOPE_GAIN / 2 / implied)
        if gap(found) > limit:
            found = max((self._slope(names, loss, gain / 2 / implied) for gain in _CLOSER_GAINS), key=gap)
        return implied, found

    @torch.no_grad()
    def _slope(self, names: list[str], loss: Callable[[], float], step: float) -> float:
        """Measure the slope along the gradients of a group; every tensor moves by `step`, equally far."""
        smallest = min(float(self._parameters[name].norm()) for name in names)
        step = min(step, _LARGEST_STEP * smallest) if smallest else step
        losses = []
        for sign in (1.0, -1.0):
            for name in names:
                scale = sign * step / self._seen.norms[name]
                self._parameters[name].add_(self._seen.gradients[name], alpha=scale)
            losses.append(loss())
            for name in names:
                self._parameters[name].copy_(self._original(name).reshape(self._parameters[name].shape))
        return (losses[0] - losses[1]) / (2 * step)

    def _pieces(self, name: str, value: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs of (new, old) values, a piece at a time."""
        new, old = value.detach().reshape(-1), self._original(name).reshape(-1)
        for start in range(0, new.numel(), _PIECE):
            part = new[start : start + _PIECE]
            yield part, old[start : start + _PIECE].to(part.device, part.dtype)


def _clip_defect(norm: float, reported: float, limit: float) -> str:
    # torch's own formula: its small number shows where the limit is small
    wanted = reported * min(1.0, limit / (reported + 1e-6)) if limit > 0 else reported
    if math.isclose(norm, wanted, rel_tol=CLIP_TOLERANCE):
        return ""
    return (
        f"the gradient's norm is {norm:.4g} at the step; {reported:.4g} clipped to {limit:g} is {wanted:.4g}"
    )


def _is_left(value: Tensor) -> bool:
    return value.grad is not None and bool(value.grad.any())


def _some(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more have" if len(names) > 1 else " has")
