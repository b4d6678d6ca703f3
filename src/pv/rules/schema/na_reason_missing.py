"""An obligation is `not_applicable` without `na_reason`.

An exemption without a reason cannot be ended when its reason ends.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.contract.obligation import NOT_APPLICABLE
from pv.rules.blank import blank
from pv.rules.examples import edit
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for obligation in contract.obligations:
        if obligation.applies_to == NOT_APPLICABLE and blank(obligation.na_reason):
            says = "the obligation is not_applicable without na_reason"
            yield Offence(obligation.where("applies_to"), says, "give na_reason")


RULE = Rule(
    page=__doc__,
    id="SCHEMA-021",
    name="na-reason-missing",
    profiles=SINCE_PV2,
    bad=edit("type: invariant", "type: invariant\n    applies_to: not_applicable\n    na_owner: me"),
    good=edit(
        "type: invariant",
        "type: invariant\n    applies_to: not_applicable\n    na_owner: me\n    na_reason: no split here",
    ),
    check=_check,
)
