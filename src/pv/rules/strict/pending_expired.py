"""The date of a pending test has passed.

It was not to be unrun for longer than that. Run it, or decide anew until when it waits.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.dates import day_of
from pv.rules.examples import edit
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for test in contract.tests:
        last = day_of(test.pending.expires or "") if test.pending is not None else None
        if last is not None and last < around.today:
            assert test.pending is not None
            says = f"{test.id} was to wait until {last}, and today is {around.today}"
            yield Offence(test.pending.where("expires"), says, "run it, or set another date")


RULE = Rule(
    page=__doc__,
    id="STRICT-014",
    name="pending-expired",
    profiles=STRICT,
    bad=edit(
        "    timeout_s: 60\n",
        "    timeout_s: 60\n    pending: {owner: me, reason: no GPU here, needs: [gpu], expires: 2020-02-29}\n",
    ),
    good=edit(
        "    timeout_s: 60\n",
        "    timeout_s: 60\n    pending: {owner: me, reason: no GPU here, needs: [gpu], expires: 2199-12-31}\n",
    ),
    check=_check,
)
