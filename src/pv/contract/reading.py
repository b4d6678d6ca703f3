"""What one reading of a file notes beside the values: what cannot be read, and what nobody asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

from pv.profile import Profile
from pv.tree.nodes import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A value that cannot be what its field is."""

    place: Place
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownKey:
    """A key that no field of the profile has."""

    name: str
    within: str  # "falsification_tests[2]"; empty at the top
    place: Place
    accepted: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Reading:
    """What one reading of a file has found beside its values."""

    profile: Profile
    problems: list[Problem] = field(default_factory=list)
    unknown: list[UnknownKey] = field(default_factory=list)
