"""`parent_contract` stands on an obligation that is no subcontract.

The field is the contract that a subcontract refines. On another type nothing reads it, and its
author believes that something does.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import STRICT_BASE, Example, edit
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for obligation in contract.obligations:
        if obligation.parent_contract is not None and obligation.type not in ("subcontract",):
            says = f"parent_contract stands on the type {obligation.type}"
            yield Offence(
                obligation.where("parent_contract"), says, "remove it, or make the type subcontract"
            )


RULE = Rule(
    page=__doc__,
    id="SCHEMA-016",
    name="parent-misplaced",
    profiles=SINCE_PV2,
    bad=edit("type: invariant", "type: invariant\n    parent_contract: parent-v1"),
    good=Example(
        changes=(
            ("type: invariant", "type: subcontract\n    parent_contract: parent-v1"),
            ("depends_on: []", "depends_on: [parent-v1]"),
        ),
        beside=(("parent-v1", STRICT_BASE.replace("SPLIT", "PARENT")),),
    ),
    check=_check,
)
