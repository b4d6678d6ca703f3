"""A bounded proof does not say what it proves.

A proof of nothing counts as proof of everything in a list that only counts proofs.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.blank import blank
from pv.rules.examples import FIELD_BASE, edit
from pv.rules.rule import EVERY, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for proof in contract.proofs:
        if blank(proof.obligation):
            says = f"the proof {proof.id} has an empty obligation"
            yield Offence(proof.where("obligation"), says, "name the obligation by its id")


RULE = Rule(
    page=__doc__,
    id="SCHEMA-011",
    name="proof-obligation-empty",
    profiles=EVERY,
    bad=edit("obligation: SM-INV-001", 'obligation: ""', base=FIELD_BASE),
    good=edit("obligation: SM-INV-001", "obligation: 1", base=FIELD_BASE),
    check=_check,
)
