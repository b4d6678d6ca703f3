"""The verdict on one claim that was to be run, and the exit code that many of them make."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from pv.contract.contract import Contract
from pv.contract.falsifier import FalsificationTest
from pv.contract.proof import Proof
from pv.errors import EXIT_NO, EXIT_NO_ANSWER, EXIT_OK
from pv.run.answer import Answer
from pv.run.planting import Controlled


class Verdict(StrEnum):
    """What is known of a claim after its run."""

    SURVIVED = "survived"  # it was run, it held, and its controls made it fail
    REFUTED = "refuted"
    COULD_NOT_FAIL = "could not fail"  # it survived a planted defect
    NO_ANSWER = "no answer"  # it was run, and that says nothing
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One claim with its verdict."""

    contract: Contract = field(repr=False)
    part: FalsificationTest | Proof = field(repr=False)
    verdict: Verdict
    why: str
    is_pending: bool = False  # not run, with the owner and the day that a contract must name for that
    is_wrong: bool = False  # not run, and that is an error of the contract
    answer: Answer | None = field(default=None, repr=False)
    controls: tuple[Controlled, ...] = field(default=(), repr=False)
    with_controls: bool = False  # all that the contract names were run
    start_unix_s: float = 0.0
    end_unix_s: float = 0.0

    @property
    def word(self) -> str:
        """The verdict; of a proof that held, which kind of answer it is: one never stands for another."""
        grade = self.answer.facts.get("grade") if self.answer is not None else None
        return (
            str(grade)
            if grade and self.verdict in (Verdict.SURVIVED, Verdict.NO_ANSWER)
            else self.verdict.value
        )

    @property
    def id(self) -> str:
        """The claim's own id."""
        return self.part.id


def exit_code(results: Iterable[Result]) -> int:
    """0 when all that was run survived, 1 when something did not, 2 when it is not known; nothing run is not known.

    Args:
        results: of all claims that were selected. Pending ones have their owner and day, and do not count.
    """
    found = [result for result in results if not result.is_pending]
    if any(r.verdict in (Verdict.REFUTED, Verdict.COULD_NOT_FAIL) or r.is_wrong for r in found):
        return EXIT_NO
    if not found or any(r.verdict is not Verdict.SURVIVED for r in found):
        return EXIT_NO_ANSWER
    return EXIT_OK
