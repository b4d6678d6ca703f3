"""The words for how much of a contract is borne out, in order."""

from __future__ import annotations

from enum import IntEnum


class Level(IntEnum):
    """A status; what comes later needs all that comes before."""

    INVALID = 0  # it is no valid claim
    REFUTED = 1  # something that would refute it did
    PROPOSED = 2  # a valid claim, and no more
    PARTIAL_ALGORITHM_LEVEL = 3  # the falsifiers of parts have survived
    FUNCTIONAL = 4  # every falsifier that needs nothing live has survived
    DISCHARGED = 5  # the live ones too, on the real artifact

    @classmethod
    def of(cls, word: str | None) -> Level | None:
        """The status that a contract declares; None when the word is none that can be declared."""
        return {level.name: level for level in cls if level >= cls.PROPOSED}.get(word or "")
