"""Which obligations have a falsifier that can be run and can fail, and which only a word."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from pv.contract.contract import Contract
from pv.contract.falsifier import FalsificationTest
from pv.contract.obligation import NOT_APPLICABLE, Obligation
from pv.contract.proof import Proof


class Cover(IntEnum):
    """The best that an obligation has; what comes later is better."""

    NOTHING = 0  # nobody says what would refute it
    WORDS = 1  # somebody says so, and nothing can be run
    PENDING = 2  # it will be run, says its owner
    UNCONTROLLED = 3  # it is run, and need not be able to fail
    PROOF = 4  # a bounded proof, and no falsifier
    RUN = 5  # a falsifier with a control

    @property
    def word(self) -> str:
        """As a report spells it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """An obligation with what covers it."""

    contract: str
    obligation: str
    cover: Cover
    by: tuple[str, ...]  # ids of tests and proofs
    is_needed: bool  # False when it says itself that it does not apply


def coverage(contract: Contract) -> tuple[Covered, ...]:
    """What covers each obligation of a contract.

    Args:
        contract: of any profile.
    """
    return tuple(_covered(contract, o, i) for i, o in enumerate(contract.obligations, 1))


def _covered(contract: Contract, obligation: Obligation, number: int) -> Covered:
    tests = [t for t in contract.tests if obligation.id and obligation.id in (*t.refutes, *t.obligations)]
    proofs = [p for p in contract.proofs if obligation.id and p.obligation == obligation.id]
    covers = [*map(_of_test, tests), *map(_of_proof, proofs)]
    return Covered(
        contract=contract.stem,
        obligation=obligation.id or f"number {number}",
        cover=max(covers, default=Cover.NOTHING),
        by=(*(test.id for test in tests), *(proof.id for proof in proofs)),
        is_needed=obligation.applies_to != NOT_APPLICABLE,
    )


def _of_test(test: FalsificationTest) -> Cover:
    if test.runner is None:
        return Cover.PENDING if test.pending is not None else Cover.WORDS
    if test.pending is not None:
        return Cover.PENDING
    return Cover.RUN if test.controls else Cover.UNCONTROLLED


def _of_proof(proof: Proof) -> Cover:
    return Cover.WORDS if proof.runner is None else Cover.PROOF
