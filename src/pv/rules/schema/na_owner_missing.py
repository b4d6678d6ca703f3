"""An obligation is `not_applicable` without `na_owner`.

An exemption that nobody answers for stays for ever.
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
        if obligation.applies_to == NOT_APPLICABLE and blank(obligation.na_owner):
            says = "the obligation is not_applicable without na_owner"
            yield Offence(obligation.where("applies_to"), says, "give na_owner")


RULE = Rule(
    page=__doc__,
    id="SCHEMA-022",
    name="na-owner-missing",
    profiles=SINCE_PV2,
    bad=edit(
        "type: invariant", "type: invariant\n    applies_to: not_applicable\n    na_reason: no split here"
    ),
    good=edit(
        "type: invariant",
        "type: invariant\n    applies_to: not_applicable\n    na_reason: no split here\n    na_owner: me",
    ),
    check=_check,
)
