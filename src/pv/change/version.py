"""The version that follows from changes: a weaker or another claim is a new one, a stronger one adds, words repair."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pv.change.change import Change, Kind

_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
_RANK = {
    Kind.REMOVED: 3, Kind.WEAKENED: 3, Kind.CHANGED: 3, Kind.STRENGTHENED: 2, Kind.ADDED: 2, Kind.REWORDED: 1,
}  # fmt: skip
BUMPS = ("none", "patch", "minor", "major")


def bump_of(changes: Iterable[Change]) -> str:
    """Which part of the version must grow: one of BUMPS.

    Args:
        changes: of one contract.
    """
    return BUMPS[max((_RANK[change.kind] for change in changes), default=0)]


def next_version(version: str, bump: str) -> str | None:
    """The least version that is far enough; None when the old one is no version.

    Args:
        version: such as "1.0.0".
        bump: one of BUMPS.
    """
    numbers = _numbers(version)
    if numbers is None:
        return None
    major, minor, patch = numbers
    following = {
        "major": (major + 1, 0, 0),
        "minor": (major, minor + 1, 0),
        "patch": (major, minor, patch + 1),
        "none": numbers,
    }[bump]
    return ".".join(map(str, following))


def follows(old: str, new: str, bump: str) -> bool:
    """Whether a version has grown as far as the changes ask.

    Args:
        old: version.
        new: version.
        bump: one of BUMPS.
    """
    least = next_version(old, bump)
    before, after = _numbers(least or ""), _numbers(new)
    return before is not None and after is not None and after >= before


def _numbers(version: str) -> tuple[int, int, int] | None:
    found = _VERSION.fullmatch(version.strip().removeprefix("v"))
    if found is None:
        return None
    major, minor, patch = found.groups()
    return int(major), int(minor), int(patch or 0)
