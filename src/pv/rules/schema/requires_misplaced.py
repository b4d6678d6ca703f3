"""`requires` stands on an obligation that is no postcondition.

The field is what a postcondition takes for granted. On another type nothing reads it, and its
author believes that something does.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import edit
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for obligation in contract.obligations:
        if obligation.requires is not None and obligation.type not in ("postcondition",):
            says = f"requires stands on the type {obligation.type}"
            yield Offence(obligation.where("requires"), says, "remove it, or make the type postcondition")


RULE = Rule(
    page=__doc__,
    id="SCHEMA-014",
    name="requires-misplaced",
    profiles=SINCE_PV2,
    bad=edit("type: invariant", "type: invariant\n    requires: the split is fixed"),
    good=edit("type: invariant", "type: postcondition\n    requires: the split is fixed"),
    check=_check,
)
