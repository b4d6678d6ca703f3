"""Claims about two fields of the same record; a record that lacks one of them is passed over."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from pv.mined.claim import NAME, NUMBER, Breach, Claim, close, spelled, spelled_about, spelled_value
from pv.mined.run import Number, Run, is_number


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoFields(Claim):
    """A field that follows from another."""

    other: str

    @property
    def fields(self) -> tuple[str, ...]:
        """Both."""
        return (self.field, self.other)

    @abstractmethod
    def expected(self, other: Number) -> Number:
        """The number that the other field asks for."""

    def breaches(self, run: Run) -> Iterator[Breach]:
        """The records where it is another number."""
        for i, (value, other) in enumerate(zip(run.column(self.field), run.column(self.other), strict=True)):
            if is_number(value) and is_number(other) and not close(value, self.expected(other)):
                told = f"must be {spelled_about(self.expected(other))}, because {self.other} is {spelled_value(other)}"
                yield self.breach(run, i, value, told)
        yield from self.no_numbers(run)

    def spoilt(self, value: Number, before: Number) -> str:
        """The next number."""
        return spelled_value(value + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Equals(TwoFields):
    """The two fields are the same number."""

    kind = "equal"
    form = "FIELD equals OTHER"
    pattern = rf"(?P<field>{NAME}) equals (?P<other>{NAME})"

    @property
    def text(self) -> str:
        """The claim in one line."""
        return f"{spelled(self.field)} equals {spelled(self.other)}"

    def expected(self, other: Number) -> Number:
        """The same."""
        return other


@dataclass(frozen=True, slots=True, kw_only=True)
class Multiple(TwoFields):
    """The field is the other one times a constant: tokens a step, floating point operations a token."""

    kind = "ratio"
    form = "FIELD is NUMBER times OTHER"
    pattern = rf"(?P<field>{NAME}) is (?P<factor>{NUMBER}) times (?P<other>{NAME})"

    factor: Number

    @property
    def text(self) -> str:
        """The claim in one line."""
        return f"{spelled(self.field)} is {spelled_value(self.factor)} times {spelled(self.other)}"

    def expected(self, other: Number) -> Number:
        """Its multiple."""
        return self.factor * other
