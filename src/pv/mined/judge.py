"""Hold a claim against a run: it holds, it is refuted, or too few records bear it to say."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from pv.mined.claim import Breach, Claim
from pv.mined.run import Run


class Held(StrEnum):
    """What a run says of a claim."""

    HOLDS = "holds"
    REFUTED = "refuted"
    UNKNOWN = "not known"  # too few records bear it: zero is never a pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A claim, held against a run."""

    claim: Claim
    held: Held
    support: int  # records that bear it
    breaches: tuple[Breach, ...] = field(repr=False)


def judge(claim: Claim, run: Run, least: int) -> Judged:
    """What a run says of a claim.

    Args:
        claim: what is to hold.
        run: the records.
        least: how many must bear it before it is said to hold; one is enough to refute it.
    """
    breaches = tuple(claim.breaches(run))
    support = claim.support(run)
    held = Held.HOLDS if support >= least else Held.UNKNOWN
    return Judged(claim=claim, held=Held.REFUTED if breaches else held, support=support, breaches=breaches)
