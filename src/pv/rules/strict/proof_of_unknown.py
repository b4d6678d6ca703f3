"""A bounded proof is of an id that is no obligation.

Of the references of this kind in the field none resolves.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.nearest import did_you_mean
from pv.rules.examples import STRICT_BASE, Example, edit
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    known = [o.id for reached in around.corpus.reach(contract) for o in reached.obligations if o.id]
    for proof in contract.proofs:
        if proof.obligation and proof.obligation not in known:
            says = f"{proof.obligation} is no obligation of this contract or of one that it depends on"
            place = proof.where("obligation")
            yield Offence(place, says + did_you_mean(proof.obligation, known), "correct the id")


RULE = Rule(
    page=__doc__,
    id="STRICT-020",
    name="proof-of-unknown",
    profiles=STRICT,
    bad=edit("obligation: SPLIT-OBL-001", "obligation: SPLIT-001"),
    good=Example(
        changes=(
            ("depends_on: []", "depends_on: [also-v1]"),
            ("obligation: SPLIT-OBL-001", "obligation: ALSO-OBL-001"),
        ),
        beside=(("also-v1", STRICT_BASE.replace("SPLIT-", "ALSO-")),),
    ),
    check=_check,
)
