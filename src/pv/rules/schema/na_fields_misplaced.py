"""`na_reason` or `na_owner` stands on an obligation that applies.

Somebody has exempted it in words, and every list still counts it as claimed.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.contract.obligation import NOT_APPLICABLE
from pv.rules.examples import edit
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for obligation in contract.obligations:
        for name in ("na_reason", "na_owner"):
            if obligation.has(name) and obligation.applies_to != NOT_APPLICABLE:
                says = f"{name} stands on an obligation that applies"
                yield Offence(obligation.where(name), says, "set applies_to: not_applicable, or remove it")


RULE = Rule(
    page=__doc__,
    id="SCHEMA-023",
    name="na-fields-misplaced",
    profiles=SINCE_PV2,
    bad=edit("type: invariant", "type: invariant\n    applies_to: all\n    na_reason: not here"),
    good=edit(
        "type: invariant",
        "type: invariant\n    applies_to: not_applicable\n    na_reason: not here\n    na_owner: me",
    ),
    check=_check,
)
