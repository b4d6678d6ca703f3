"""What one execution of a runner says: the claim held, it failed, or there is no answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

MAX_TAIL = 4000  # characters of what a run printed that are kept


class Said(StrEnum):
    """The three things that an execution can say."""

    HELD = "held"
    FAILED = "failed"
    NOTHING = "nothing"  # broken, hanging, empty: whatever the reason, it is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Tests, by what became of them."""

    selected: int = 0
    run: int = 0
    passed: int = 0
    failed: int = 0
    errors: int = 0  # broke before or after the test itself
    skipped: int = 0
    xfailed: int = 0
    xpassed: int = 0

    def as_dict(self) -> dict[str, int]:
        """By name."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A figure and the limit that it was held against."""

    value: float
    op: str
    limit: float
    unit: str | None
    values: tuple[float, ...]  # of every repeat; `value` is their median


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a run printed, by digest and by its end."""

    sha256: str
    size_bytes: int
    tail: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one execution says."""

    said: Said
    why: str  # one clause
    asserted: bool = False  # it failed by a judgement of its own, and not because something broke
    says: str = field(default="", repr=False)  # what the failure says, where `sees` is searched
    command: tuple[str, ...] = ()
    exit_code: int | None = None
    seconds: float = 0.0
    counts: Counts | None = None
    figure: Measured | None = None
    output: Output | None = None
    passed: tuple[str, ...] = ()  # names of tests
    failed: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(
        default_factory=dict
    )  # seeds, counterexample, cases, what the test reported
    events: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)

    def event(self, name: str) -> Mapping[str, Any] | None:
        """The last event of a name; None without one."""
        return next((event for event in reversed(self.events) if event.get("event") == name), None)
