"""Spikes: a loss or a gradient far above those of the steps before, and what the run does about one.

OLMo-core's SkipStepAdamW (of the makers of OLMo 2, arXiv:2501.00656) leaves out an update whose loss or gradient norm
lies 6 standard deviations above the mean of the last 128, once half of them are there. So do we, with the median and
1.4826 times the median absolute deviation in place of mean and deviation (Iglewicz and Hoaglin 1993): what is unusual
in the window then hardly widens what the next step is held against. Only updates that were made are in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Self

from apr.base.errors import AprError
from apr.train.errors import SpikeFound, SpikesTooMany

SPIKE_WORDS = re.compile(r"off|abort|skip:[1-9][0-9]{0,8}")
SPIKE_LIMIT = "off, abort or skip:N with N from 1"
_OF_NORMAL = 1.4826  # standard deviations of a normal distribution in its median absolute deviation
_LEAST_SPREAD = 0.001  # of the median: figures that hardly differ would make a rounding error a spike
FIGURES = ("train_loss", "grad_norm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spike:
    """A step whose figure lies above its limit."""

    step: int
    figure: str  # train_loss or grad_norm
    value: float
    limit: float

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """The figures of the last updates, and what they say of the next. A value: `entered` gives the next one."""

    policy: str  # off, abort or skip:N
    threshold: float  # robust standard deviations above the median
    window: int  # updates
    losses: tuple[float, ...] = ()
    norms: tuple[float, ...] = ()
    skipped: tuple[Spike, ...] = ()

    def judge(self, step: int, train_loss: float, grad_norm: float) -> Spike | None:
        """Say whether the update of a step is to be left out.

        Args:
            step: 1 for the first.
            train_loss, grad_norm: finite; NaN and infinity end a run before this is asked.

        Raises:
            SpikeFound: the policy is to abort.
            SpikesTooMany: as many as the policy allows have been left out.
        """
        spike = self.find(step, train_loss, grad_norm)
        if spike is None:
            return None
        if self.policy == "abort":
            raise SpikeFound(**spike.to_dict())
        if len(self.skipped) >= (allowed := int(self.policy.removeprefix("skip:"))):
            raise SpikesTooMany(**spike.to_dict(), allowed=allowed)
        return spike

    def find(self, step: int, train_loss: float, grad_norm: float) -> Spike | None:
        """The figure of a step that is above its limit, the loss first; None where none is, or nothing is judged."""
        if self.policy == "off":
            return None
        for figure, value, before in zip(
            FIGURES, (train_loss, grad_norm), (self.losses, self.norms), strict=True
        ):
            if 2 * len(before) >= self.window and value > (limit := spike_limit(before, self.threshold)):
                return Spike(step=step, figure=figure, value=value, limit=limit)
        return None

    def entered(self, train_loss: float, grad_norm: float, spike: Spike | None) -> Self:
        """The trail after a step: with its figures, or with the spike that was left out."""
        if self.policy == "off":
            return self
        if spike is not None:
            return replace(self, skipped=(*self.skipped, spike))
        return replace(
            self,
            losses=(*self.losses, train_loss)[-self.window :],
            norms=(*self.norms, grad_norm)[-self.window :],
        )

    def to_books(self) -> dict[str, Any]:
        """What a resumed run needs, as JSON values."""
        skipped = [spike.to_dict() for spike in self.skipped]
        return {"losses": list(self.losses), "norms": list(self.norms), "skipped": skipped}

    def from_books(self, books: Mapping[str, Any]) -> Self:
        """The trail as it was saved, under this policy."""
        skipped = tuple(Spike(**said) for said in books["skipped"])
        return replace(self, losses=tuple(books["losses"]), norms=tuple(books["norms"]), skipped=skipped)


def spike_limit(before: tuple[float, ...], threshold: float) -> float:
    """Median plus `threshold` robust standard deviations of the figures before."""
    middle = median(before)
    spread = _OF_NORMAL * median(abs(value - middle) for value in before)
    return middle + threshold * max(spread, _LEAST_SPREAD * abs(middle))


def skipped_line(spike: Spike | None) -> dict[str, Any]:
    """What the line of a step in metrics.jsonl has more, where its update was left out."""
    if spike is None:
        return {}
    return {"skipped": True, "spike": spike.figure, "spike_limit": spike.limit}


def skipped_sentence(spike: Spike) -> str:
    """A spike that was left out, for the run's log."""
    told = f"{spike.figure} of step {spike.step} is {spike.value:.4f}, above {spike.limit:.4f}"
    return f"{told}: its update is left out"


def spikes_of(trail: Trail, error: AprError | None) -> list[dict[str, Any]]:
    """The record's list: every update that was left out, and the spike that ended the run, if one did."""
    found = [{**spike.to_dict(), "skipped": True} for spike in trail.skipped]
    if isinstance(error, SpikeFound):
        names = ("step", "figure", "value", "limit")
        found.append({**{name: getattr(error, name) for name in names}, "skipped": False})
    return found
