"""How times, counts and states are worded, in every format of a report."""

from __future__ import annotations

from datetime import datetime, timedelta

from pv.status.claim import Claim, State
from pv.status.compute import ContractStatus, Report
from pv.status.milestones import Milestone

# What each state is called in a report, with its sign; signs differ by shape, so that colour is not needed.
SIGNS = {
    State.SURVIVED: "+", State.UNCONTROLLED: "~", State.UNCONFIRMED: "~", State.REFUTED: "X", State.COULD_NOT_FAIL: "!",
    State.STALE: "o", State.NO_ANSWER: "?", State.PENDING: ".", State.NEVER_RUN: "-",
}  # fmt: skip


def age(ended: datetime | None, now: datetime) -> str:
    """How long ago a run ended, in its largest unit.

    Args:
        ended: when; None when there was none.
        now: by this machine's clock, which need not agree with that of the run.
    """
    if ended is None:
        return ""
    passed = now - ended
    if passed < timedelta(minutes=-1):
        return "later than now"
    for unit, seconds in (("d", 86400), ("h", 3600), ("min", 60)):
        if passed.total_seconds() >= seconds:
            return f"{int(passed.total_seconds() // seconds)} {unit}"
    return f"{max(int(passed.total_seconds()), 0)} s"


def kind(claim: Claim) -> str:
    """What sort of claim it is, in a word or two."""
    if claim.is_proof:
        return "proof"
    level = "part" if claim.is_part else "test"
    return "live" if claim.is_live else level


def state(claim: Claim) -> str:
    """The state, and of a proof that held which grade it has: one never stands for another."""
    return claim.grade if claim.survived and claim.grade else claim.state.value


def why(claim: Claim) -> str:
    """The reason, with a note of what an earlier run said of the same bytes."""
    if claim.refuted_before is None:
        return claim.why
    return f"{claim.why}; refuted on the same bytes on {claim.refuted_before:%Y-%m-%d}"


def progress(contract: ContractStatus) -> str:
    """How many claims of a contract have survived."""
    return f"{contract.survived} of {len(contract.claims)}"


def reached(milestone: Milestone) -> str:
    """How many claims of a milestone have survived, and the share."""
    share = 100 * len(milestone.done) // milestone.total if milestone.total else 0
    return f"{len(milestone.done)} of {milestone.total} ({share} %)"


def summary(report: Report) -> str:
    """One line for all of it."""
    claims = report.claims
    survived = sum(claim.survived for claim in claims)
    return f"{survived} of {len(claims)} claims of {len(report.contracts)} contract(s) have survived"
