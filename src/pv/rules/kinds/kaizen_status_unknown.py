"""The status of a kaizen is none of draft, implemented, implementing, pending, planned.

Lists by status leave it out.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import KAIZEN_BASE, edit
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    if (kaizen := contract.kaizen) is None:
        return

    if kaizen.status not in STATUSES:
        says = f"the status {kaizen.status or 'is missing and'} is none of {', '.join(STATUSES)}"
        yield Offence(contract.where("status"), says, "write one of them")


STATUSES = ("draft", "implemented", "implementing", "pending", "planned")


RULE = Rule(
    page=__doc__,
    id="KAIZEN-002",
    name="kaizen-status-unknown",
    profiles=SINCE_PV2,
    bad=edit("status: implementing", "status: done", base=KAIZEN_BASE),
    good=edit("status: implementing", "status: draft", base=KAIZEN_BASE),
    check=_check,
)
