"""`applies_to_phase` stands on an obligation that is no loop_invariant or loop_variant.

The field is the phase of a loop. On another type nothing reads it, and its
author believes that something does.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import edit
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for obligation in contract.obligations:
        if obligation.applies_to_phase is not None and obligation.type not in (
            "loop_invariant",
            "loop_variant",
        ):
            says = f"applies_to_phase stands on the type {obligation.type}"
            yield Offence(
                obligation.where("applies_to_phase"),
                says,
                "remove it, or make the type loop_invariant or loop_variant",
            )


RULE = Rule(
    page=__doc__,
    id="SCHEMA-015",
    name="phase-misplaced",
    profiles=SINCE_PV2,
    bad=edit("type: invariant", "type: invariant\n    applies_to_phase: scan"),
    good=edit("type: invariant", "type: loop_invariant\n    applies_to_phase: scan"),
    check=_check,
)
