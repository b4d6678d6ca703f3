"""A figure or a verdict that is computed stands in the file.

`verification_summary`, `actually_verified: true` and `lean.status: proved` are the author's word; the ancestor's files
disagree with each other about them. `pv status` computes what holds.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.finding import Severity
from pv.rules.examples import edit
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    if contract.summary is not None:
        yield Offence(contract.where("summary"), "verification_summary is counted by hand", "remove it")
    for proof in contract.proofs:
        if proof.actually_verified:
            says = f"{proof.id} says of itself that it was verified"
            yield Offence(proof.where("actually_verified"), says, "remove it, and run pv prove")
    for obligation in contract.obligations:
        if obligation.lean is not None and obligation.lean.status == "proved":
            says = "the status of a theorem is typed by hand"
            yield Offence(obligation.lean.where("status"), says, "remove it, or run the prover as a command")


RULE = Rule(
    page=__doc__,
    id="STRICT-030",
    name="counted-by-hand",
    profiles=STRICT,
    severity=Severity.WARNING,
    bad=edit("bounded_proofs:\n", "verification_summary: {total_obligations: 12}\nbounded_proofs:\n"),
    good=edit("bounded_proofs:\n", "bounded_proofs: # of 12 obligations\n"),
    check=_check,
)
