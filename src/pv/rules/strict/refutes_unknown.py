"""`refutes` names an id that is no obligation.

A reference that does not resolve binds the test to nothing. It may name obligations of this contract and of those
that it depends on, directly or through others.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.nearest import did_you_mean
from pv.rules.examples import STRICT_BASE, Example, edit
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    known = [o.id for reached in around.corpus.reach(contract) for o in reached.obligations if o.id]
    for test in contract.tests:
        for i, name in enumerate(test.refutes):
            if name not in known:
                says = f"{name} is no obligation of this contract or of one that it depends on"
                yield Offence(test.where(f"refutes[{i}]"), says + did_you_mean(name, known), "correct the id")


RULE = Rule(
    page=__doc__,
    id="STRICT-006",
    name="refutes-unknown",
    profiles=STRICT,
    bad=edit("refutes: [SPLIT-OBL-001]", "refutes: [SPLIT-OBL-001, SPLIT-OBL-002]"),
    good=Example(
        changes=(
            ("depends_on: []", "depends_on: [also-v1]"),
            ("refutes: [SPLIT-OBL-001]", "refutes: [SPLIT-OBL-001, ALSO-OBL-001]"),
        ),
        beside=(("also-v1", STRICT_BASE.replace("SPLIT-", "ALSO-")),),
    ),
    check=_check,
)
