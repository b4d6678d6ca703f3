"""The three ways to read a contract."""

from __future__ import annotations

from enum import IntEnum


class Profile(IntEnum):
    """Which keys a contract may have and which rules judge it; a later profile knows what an earlier one knows."""

    PV1 = 1  # the field's first generation
    PV2 = 2  # the field's second generation
    STRICT = 3  # ours: every claim can be run, and can fail

    @property
    def label(self) -> str:
        """The name on the command line."""
        return self.name.lower()

    @classmethod
    def of(cls, label: str) -> Profile:
        """The profile with that name on the command line."""
        return cls[label.upper()]
