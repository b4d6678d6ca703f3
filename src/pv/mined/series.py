"""Claims about how one field goes on from record to record; records that lack it are passed over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from pv.mined.claim import NAME, NUMBER, Breach, Claim, close, spelled, spelled_about, spelled_value
from pv.mined.run import Number, Run


@dataclass(frozen=True, slots=True, kw_only=True)
class IncreasesBy(Claim):
    """The field is one step above the record before: a step counter without gap and without repetition."""

    kind = "increases"
    form = "FIELD increases by NUMBER"
    pattern = rf"(?P<field>{NAME}) increases by (?P<step>{NUMBER})"

    step: Number

    @property
    def text(self) -> str:
        """The claim in one line."""
        return f"{spelled(self.field)} increases by {spelled_value(self.step)}"

    def breaches(self, run: Run) -> Iterator[Breach]:
        """The records that are not one step above the one before."""
        for (_, before), (i, value) in pairwise(run.numbers(self.field)):
            if not close(value, before + self.step):
                yield self.breach(run, i, value, f"must be {spelled_about(before + self.step)}")
        yield from self.no_numbers(run)

    def spoilt(self, value: Number, before: Number) -> str:
        """A step too far."""
        return spelled_value(value + self.step)


@dataclass(frozen=True, slots=True, kw_only=True)
class NeverFalls(Claim):
    """The field is nowhere below the record before."""

    kind = "monotone"
    form = "FIELD never falls"
    pattern = rf"(?P<field>{NAME}) never falls"

    @property
    def text(self) -> str:
        """The claim in one line."""
        return f"{spelled(self.field)} never falls"

    def breaches(self, run: Run) -> Iterator[Breach]:
        """The records that are below the one before; NaN is not known to be above it."""
        for (_, before), (i, value) in pairwise(run.numbers(self.field)):
            if not value >= before:
                yield self.breach(run, i, value, f"must be {spelled_value(before)} or more")
        yield from self.no_numbers(run)

    def spoilt(self, value: Number, before: Number) -> str:
        """A number below the one before."""
        return spelled_value(before - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndsBelowStart(Claim):
    """The mean of the field's last fifth is below that of its first: single values of a loss are noise."""

    kind = "falls"
    form = "FIELD ends below its start"
    pattern = rf"(?P<field>{NAME}) ends below its start"

    @property
    def text(self) -> str:
        """The claim in one line."""
        return f"{spelled(self.field)} ends below its start"

    def breaches(self, run: Run) -> Iterator[Breach]:
        """The last record that bears the field, when the end is not below the start."""
        yield from self.no_numbers(run)
        numbers = run.numbers(self.field)
        if not numbers:
            return
        start, end = ends([value for _, value in numbers])
        if not mean(end) < mean(start):
            index, value = numbers[-1]
            told = f"the mean of the last {len(end)}, {mean(end):g}, must be below that of the first, {mean(start):g}"
            yield self.breach(run, index, value, told)

    def spoilt(self, value: Number, before: Number) -> str:
        """A number that raises the mean of any fifth."""
        return spelled_value(1e6 * (1 + abs(value)))


def ends(values: list[Number]) -> tuple[list[float], list[float]]:
    """The first fifth of some values and the last.

    Args:
        values: at least one.
    """
    fifth = max(1, len(values) // 5)
    return [float(v) for v in values[:fifth]], [float(v) for v in values[-fifth:]]


def mean(values: list[float]) -> float:
    """The mean; infinite where the sum is, and no error as in the statistics module."""
    return sum(values) / len(values)
