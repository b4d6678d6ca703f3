"""A subcontract's parent is not in `metadata.depends_on`.

The parent's status would not limit this contract's, although its claims rest on it.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import STRICT_BASE, Example, edit
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for obligation in contract.obligations:
        parent = obligation.parent_contract
        if obligation.type == "subcontract" and parent not in contract.metadata.depends_on:
            says = (
                f"the parent {parent} is not in metadata.depends_on"
                if parent
                else "a subcontract names no parent"
            )
            yield Offence(obligation.where("parent_contract"), says, "name the parent in both places")


RULE = Rule(
    page=__doc__,
    id="SCHEMA-017",
    name="parent-not-dependency",
    profiles=SINCE_PV2,
    bad=edit("type: invariant", "type: subcontract\n    parent_contract: parent-v1"),
    good=Example(
        changes=(
            ("type: invariant", "type: subcontract\n    parent_contract: parent-v1"),
            ("depends_on: []", "depends_on: [parent-v1]"),
        ),
        beside=(("parent-v1", STRICT_BASE.replace("SPLIT", "PARENT")),),
    ),
    check=_check,
)
