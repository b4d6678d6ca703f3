"""A bounded proof does not state its bound.

"Proved" up to 2 elements and up to 2,000 look the same in every list.
The strict profile asks for the size of the domain or the number of examples instead (STRICT-019).
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.finding import Severity
from pv.rules.examples import FIELD_BASE, edit
from pv.rules.rule import FIELD, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for proof in contract.proofs:
        if proof.bound is None:
            yield Offence(proof.where("bound"), f"the proof {proof.id} has no bound", "state its bound")


RULE = Rule(
    page=__doc__,
    id="SCHEMA-012",
    name="bound-missing",
    profiles=FIELD,
    severity=Severity.WARNING,
    bad=edit("    bound: 16\n", "", base=FIELD_BASE),
    good=edit("bound: 16", "bound: 0", base=FIELD_BASE),
    check=_check,
)
