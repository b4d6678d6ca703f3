"""Claims about one field that every record decides by itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from pv.mined.claim import NAME, NUMBER, Breach, Claim, spelled, spelled_value
from pv.mined.run import Number, Run, is_finite, is_number


@dataclass(frozen=True, slots=True, kw_only=True)
class EachRecord(Claim):
    """A claim about the number in each record."""

    @abstractmethod
    def holds(self, value: Number) -> bool:
        """Whether it holds of one number."""

    @property
    @abstractmethod
    def must(self) -> str:
        """What the number must be, as a clause."""

    def breaches(self, run: Run) -> Iterator[Breach]:
        """The records whose number is another, or no number."""
        for i, value in run.numbers(self.field):
            if not self.holds(value):
                yield self.breach(run, i, value, self.must)
        yield from self.no_numbers(run)


@dataclass(frozen=True, slots=True, kw_only=True)
class NeverNull(Claim):
    """The field is a number in every record."""

    kind = "present"
    form = "FIELD is never null"
    pattern = rf"(?P<field>{NAME}) is never null"

    @property
    def text(self) -> str:
        """The claim in one line."""
        return f"{spelled(self.field)} is never null"

    def breaches(self, run: Run) -> Iterator[Breach]:
        """The records where it is null, missing, or no number."""
        for i, value in enumerate(run.column(self.field)):
            if not is_number(value):
                yield self.breach(run, i, value, "must be a number")

    def spoilt(self, value: Number, before: Number) -> str:
        """Null."""
        return "null"


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant(EachRecord):
    """The field is one number throughout."""

    kind = "constant"
    form = "FIELD is NUMBER"
    pattern = rf"(?P<field>{NAME}) is (?P<value>{NUMBER})"

    value: Number

    @property
    def text(self) -> str:
        """The claim in one line."""
        return f"{spelled(self.field)} is {spelled_value(self.value)}"

    @property
    def must(self) -> str:
        """The number."""
        return f"must be {spelled_value(self.value)}"

    def holds(self, value: Number) -> bool:
        """Whether it is the number."""
        return value == self.value

    def spoilt(self, value: Number, before: Number) -> str:
        """The next number."""
        return spelled_value(value + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finite(EachRecord):
    """The field is neither NaN nor infinite."""

    kind = "finite"
    form = "FIELD is finite"
    pattern = rf"(?P<field>{NAME}) is finite"
    must = "must be finite"

    @property
    def text(self) -> str:
        """The claim in one line."""
        return f"{spelled(self.field)} is finite"

    def holds(self, value: Number) -> bool:
        """Whether it is finite."""
        return is_finite(value)

    def spoilt(self, value: Number, before: Number) -> str:
        """No number."""
        return "NaN"


@dataclass(frozen=True, slots=True, kw_only=True)
class NeverNegative(EachRecord):
    """The field is zero or more."""

    kind = "non-negative"
    form = "FIELD is never negative"
    pattern = rf"(?P<field>{NAME}) is never negative"
    must = "must be 0 or more"

    @property
    def text(self) -> str:
        """The claim in one line."""
        return f"{spelled(self.field)} is never negative"

    def holds(self, value: Number) -> bool:
        """Whether it is zero or more; NaN is not."""
        return value >= 0

    def spoilt(self, value: Number, before: Number) -> str:
        """A number below zero."""
        return "-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Within(EachRecord):
    """The field lies between two numbers, both included."""

    kind = "within"
    form = "FIELD is within [LOW, HIGH]"
    pattern = rf"(?P<field>{NAME}) is within \[(?P<low>{NUMBER}), (?P<high>{NUMBER})\]"

    low: Number
    high: Number

    @property
    def text(self) -> str:
        """The claim in one line."""
        return f"{spelled(self.field)} is within [{spelled_value(self.low)}, {spelled_value(self.high)}]"

    @property
    def must(self) -> str:
        """The two numbers."""
        return f"must lie within [{spelled_value(self.low)}, {spelled_value(self.high)}]"

    def holds(self, value: Number) -> bool:
        """Whether it lies between them; NaN does not."""
        return self.low <= value <= self.high

    def spoilt(self, value: Number, before: Number) -> str:
        """A number above both."""
        return spelled_value(self.high + abs(self.high) + 1)
