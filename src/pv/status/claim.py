"""What is known of one claim now, from its evidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from pv.contract.contract import Contract
from pv.contract.falsifier import FalsificationTest
from pv.contract.proof import Proof
from pv.evidence.fresh import Standing, standing
from pv.evidence.store import Damage
from pv.run.crosshair import UNCONFIRMED
from pv.run.verdict import Verdict


class State(StrEnum):
    """What is known of a claim."""

    SURVIVED = "survived"
    UNCONTROLLED = "uncontrolled"  # it survived, and nobody saw that it can fail
    UNCONFIRMED = "unconfirmed"  # a proof that found nothing and did not come to its end
    REFUTED = "refuted"
    COULD_NOT_FAIL = "could not fail"
    STALE = "stale"  # something that the last run speaks about was changed
    NO_ANSWER = "no answer"
    PENDING = "pending"
    NEVER_RUN = "never run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim and its standing."""

    id: str
    part: FalsificationTest | Proof = field(repr=False)
    state: State
    why: str  # one clause
    grade: str | None  # of a proof: which kind of answer it is
    ended: datetime | None  # of the run that it rests on
    refuted_before: datetime | None  # on the same bytes
    runs: int
    damage: tuple[Damage, ...]

    @property
    def is_proof(self) -> bool:
        """Whether it is a bounded proof, and not a falsification test."""
        return isinstance(self.part, Proof)

    @property
    def is_live(self) -> bool:
        """Whether it is run on the real artifact, when asked for."""
        return isinstance(self.part, FalsificationTest) and self.part.live

    @property
    def is_part(self) -> bool:
        """Whether it is about a part of the algorithm only."""
        return isinstance(self.part, FalsificationTest) and self.part.level == "part" and not self.part.live

    @property
    def survived(self) -> bool:
        """Whether it counts as borne out."""
        return self.state is State.SURVIVED


def claim_of(contract: Contract, part: FalsificationTest | Proof, root: Path, store: Path) -> Claim:
    """What is known of a claim.

    Args:
        contract: that makes it.
        part: the claim.
        root: of the project.
        store: where evidence lies.
    """
    held = standing(contract, part, root, store)
    state, why = _state(part, held)
    rests_on = held.speaks or held.last
    facts = rests_on.ours["run"]["facts"] if held.speaks is not None and rests_on is not None else {}
    return Claim(
        id=part.id, part=part, state=state, why=why, grade=facts.get("grade"),
        ended=moment(rests_on.ours["ended"]) if rests_on is not None else None,
        refuted_before=moment(held.refuted_before.ours["ended"]) if held.refuted_before is not None else None,
        runs=held.runs, damage=held.damage,
    )  # fmt: skip


def _state(part: FalsificationTest | Proof, held: Standing) -> tuple[State, str]:
    if held.speaks is not None:
        return _spoken(part, held)
    is_pending = isinstance(part, FalsificationTest) and part.pending is not None
    if is_pending and isinstance(part, FalsificationTest) and part.pending is not None:
        until = part.pending
        return State.PENDING, f"pending until {until.expires}: {until.reason} ({until.owner})"
    if held.last is None:
        return State.NEVER_RUN, "none of its evidence counts" if held.damage else "it was never run"
    if held.stale:
        more = f" and {len(held.stale) - 1} more" if len(held.stale) > 1 else ""
        return State.STALE, f"{held.stale[0]}{more}"
    is_unconfirmed = held.last.ours["run"]["facts"].get("grade") == UNCONFIRMED
    return State.UNCONFIRMED if is_unconfirmed else State.NO_ANSWER, str(held.last.ours["why"])


def _spoken(part: FalsificationTest | Proof, held: Standing) -> tuple[State, str]:
    """The state of a claim that a fresh run speaks for."""
    assert held.speaks is not None
    ours, verdict = held.speaks.ours, held.verdict
    why = str(ours["why"])
    if verdict is Verdict.REFUTED:
        return State.REFUTED, why
    if verdict is Verdict.COULD_NOT_FAIL:
        return State.COULD_NOT_FAIL, why
    needs_controls = isinstance(part, FalsificationTest) or bool(part.controls)
    if needs_controls and not ours["with_controls"]:
        return State.UNCONTROLLED, why
    return State.SURVIVED, why


def moment(text: str) -> datetime:
    """An instant as evidence writes it; the beginning of time when somebody wrote none."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return datetime.fromtimestamp(0, UTC)
