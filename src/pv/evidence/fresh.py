"""Which recorded run speaks for a claim now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pv.contract.contract import Contract
from pv.contract.falsifier import FalsificationTest
from pv.contract.proof import Proof
from pv.evidence.store import Damage, Evidence, records_of
from pv.evidence.subjects import differences, subjects_of
from pv.run.verdict import Verdict

_ANSWERS = (Verdict.SURVIVED, Verdict.REFUTED, Verdict.COULD_NOT_FAIL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the evidence says of a claim."""

    speaks: Evidence | None  # the last fresh run that gave an answer
    refuted_before: Evidence | None  # on the same bytes, by an earlier run than the one that survived
    last: Evidence | None  # whatever it says and however old it is
    stale: tuple[str, ...]  # why the last does not count any more
    damage: tuple[Damage, ...]
    runs: int

    @property
    def verdict(self) -> Verdict | None:
        """Of the run that speaks; None when none does."""
        return Verdict(self.speaks.ours["verdict"]) if self.speaks is not None else None


def standing(contract: Contract, part: FalsificationTest | Proof, root: Path, store: Path) -> Standing:
    """What the evidence of a claim says, as its subjects are now.

    Args:
        contract: that makes the claim.
        part: the claim.
        root: of the project.
        store: where its evidence lies.
    """
    records = records_of(store, contract.stem, part.id)
    now = subjects_of(contract, part, root) if records.runs else ()
    fresh = [run for run in records.runs if not differences(run.subjects, now)]
    answers = [run for run in fresh if run.ours["verdict"] in _ANSWERS]
    speaks = _speaking(answers)
    refuted = [run for run in answers if run.ours["verdict"] == Verdict.REFUTED]
    survived = speaks is not None and speaks.ours["verdict"] == Verdict.SURVIVED
    last = records.runs[-1] if records.runs else None
    return Standing(
        speaks=speaks,
        refuted_before=refuted[-1] if refuted and survived else None,
        last=last,
        stale=differences(last.subjects, now) if last is not None else (),
        damage=records.damage,
        runs=len(records.runs),
    )


def _speaking(answers: list[Evidence]) -> Evidence | None:
    """The last; but a run without controls, which shows less, does not take the place of one with them."""
    if not answers:
        return None
    last = answers[-1]
    if last.ours["verdict"] == Verdict.SURVIVED and not last.ours["with_controls"]:
        since = _since_last_no(answers)
        return next((run for run in reversed(since) if run.ours["with_controls"]), last)
    return last


def _since_last_no(answers: list[Evidence]) -> list[Evidence]:
    """The runs after the last one that refuted the claim or showed that it could not fail."""
    noes = [i for i, run in enumerate(answers) if run.ours["verdict"] != Verdict.SURVIVED]
    return answers[noes[-1] + 1 :] if noes else answers
