"""`metadata.status` is no status.

It is compared with the computed one, and another word cannot be. There need be
no status at all: `pv status` computes it.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.contract.metadata import STATUSES
from pv.nearest import did_you_mean
from pv.rules.examples import edit
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    status = contract.metadata.status
    if status is not None and status not in STATUSES:
        says = f"the status {status!r} is none of {', '.join(STATUSES)}"
        yield Offence(contract.metadata.where("status"), says + did_you_mean(status, STATUSES), "remove it")


RULE = Rule(
    page=__doc__,
    id="STRICT-023",
    name="status-unknown",
    profiles=STRICT,
    bad=edit("  depends_on: []\n", "  depends_on: []\n  status: ACTIVE\n"),
    good=edit("  depends_on: []\n", "  depends_on: []\n  status: PROPOSED\n"),
    check=_check,
)
