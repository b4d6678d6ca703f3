"""What may hold of a run: a claim has one line of text, says which records bear it, and which refute it.

Mining proposes claims and keeps those that nothing refutes; judging another run asks the same code. So what is mined
from a run holds on that run by construction.
"""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from pv.mined.run import ABSENT, Number, Run, is_number

NAME = r'[^\s"]+|"(?:[^"\\]|\\.)*"'  # of a field, in the text of a claim
NUMBER = r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_PLAIN = re.compile(r'[^\s"]+')
_MAX_SHOWN = 60  # characters of a value that is no number
_REL_TOL = 1e-9  # between numbers that went through a few roundings of float64


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """A record that refutes a claim."""

    place: str
    field: str
    value: Any
    must: str  # what it must be, as a clause

    @property
    def text(self) -> str:
        """One line: where, which field, which value, and what it must be."""
        return f"{self.place}: {self.field} is {spelled_value(self.value)}, and {self.must}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim(ABC):
    """Something that may hold of one field of a run, or of two."""

    kind: ClassVar[str]
    form: ClassVar[str]  # its text, with the names of what differs in capitals
    pattern: ClassVar[str]  # the same as a regular expression over named groups

    field: str

    @property
    @abstractmethod
    def text(self) -> str:
        """The claim in one line, which `pv infer --check` reads."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that it is about."""
        return (self.field,)

    def support(self, run: Run) -> int:
        """How many records bear the claim, so that they could refute it."""
        return sum(all(map(is_number, values)) for values in zip(*map(run.column, self.fields), strict=True))

    @abstractmethod
    def breaches(self, run: Run) -> Iterator[Breach]:
        """The records that refute the claim by their number, in order, and then those that hold no number."""

    @abstractmethod
    def spoilt(self, value: Number, before: Number) -> str:
        """JSON that refutes the claim in the place of a number.

        Args:
            value: the number.
            before: the one of the record before.
        """

    def breach(self, run: Run, index: int, value: Any, must: str) -> Breach:
        """A breach in a record of a run."""
        return Breach(place=str(run.places[index]), field=self.field, value=value, must=must)

    def no_numbers(self, run: Run) -> Iterator[Breach]:
        """Records where a field holds something that is neither a number nor null: a logger may write "nan"."""
        for name in self.fields:
            for i, value in enumerate(run.column(name)):
                if value is not ABSENT and value is not None and not is_number(value):
                    yield Breach(place=str(run.places[i]), field=name, value=value, must="must be a number")


def close(a: Number, b: Number) -> bool:
    """Whether two numbers are equal but for rounding."""
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    try:
        return math.isclose(a, b, rel_tol=_REL_TOL)
    except OverflowError:  # a whole number that is no float
        return False


def spelled_about(value: Number) -> str:
    """A number that was computed, without the last digits, which rounding has made."""
    return spelled_value(value if isinstance(value, int) else float(f"{value:.12g}"))


def spelled(name: str) -> str:
    """A field's name as it stands in a claim: in quotes where it has blanks."""
    return name if _PLAIN.fullmatch(name) else json.dumps(name)


def spelled_value(value: Any) -> str:
    """A value as JSON spells it; long ones that are no numbers are cut."""
    if value is ABSENT:
        return "missing"
    text = json.dumps(value)
    return text if len(text) <= _MAX_SHOWN or is_number(value) else f"{text[:_MAX_SHOWN]}..."
