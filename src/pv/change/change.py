"""A change of a contract, and what it does to the claim."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a change does."""

    WEAKENED = "weakened"  # it is easier to survive, or less is claimed
    REMOVED = "removed"
    CHANGED = "changed"  # something else is claimed, and whether more or less is for people to say
    REWORDED = "reworded"  # the same claim in other words, or words that claim nothing
    STRENGTHENED = "strengthened"
    ADDED = "added"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change."""

    contract: str
    claim: str  # the id of an obligation, test or proof, the name of an equation, or the name of a block
    kind: Kind
    says: str  # what was and what is, as one clause; a waiver repeats it
    must_be_waived: bool

    def as_dict(self) -> dict[str, object]:
        """The change for machines."""
        return {
            "contract": self.contract,
            "claim": self.claim,
            "kind": self.kind.value,
            "change": self.says,
            "must_be_waived": self.must_be_waived,
        }


# What nobody may do in passing. Rewording counts where the words are the claim: the comparison of a field says so.
BLOCKING = frozenset((Kind.WEAKENED, Kind.REMOVED, Kind.CHANGED))
