"""A kaizen has neither a `kaizen` record nor a `contract` id.

Nothing can refer to it.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.blank import blank
from pv.rules.examples import KAIZEN_BASE, edit
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    if (kaizen := contract.kaizen) is None:
        return

    if kaizen.record is None and blank(kaizen.contract):
        yield Offence(
            contract.where("contract"), "there is no kaizen record and no contract id", "give contract an id"
        )


RULE = Rule(
    page=__doc__,
    id="KAIZEN-001",
    name="kaizen-without-record",
    profiles=SINCE_PV2,
    bad=edit("contract: KAIZEN-START-001\n", "", base=KAIZEN_BASE),
    good=edit("contract: KAIZEN-START-001\n", "kaizen: {what: start}\n", base=KAIZEN_BASE),
    check=_check,
)
