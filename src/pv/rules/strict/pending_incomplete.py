"""`pending` lacks its owner, reason, need or date.

A test that does not run, for which nobody answers until a day, stays so for ever.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.blank import blank
from pv.rules.dates import day_of
from pv.rules.examples import edit
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for test in contract.tests:
        if test.pending is None:
            continue
        told = {name: getattr(test.pending, name) for name in ("owner", "reason", "needs", "expires")}
        missing = [
            name for name, value in told.items() if not value or (isinstance(value, str) and blank(value))
        ]
        if missing:
            yield Offence(
                test.where("pending"), f"pending has no {' and no '.join(missing)}", "state all four"
            )
        elif day_of(test.pending.expires or "") is None:
            says = f"{test.pending.expires!r} is no day"
            yield Offence(test.pending.where("expires"), says, "write YYYY-MM-DD")


RULE = Rule(
    page=__doc__,
    id="STRICT-013",
    name="pending-incomplete",
    profiles=STRICT,
    bad=edit(
        "    timeout_s: 60\n",
        "    timeout_s: 60\n    pending: {owner: me, reason: no GPU here, needs: [gpu]}\n",
    ),
    good=edit(
        "    timeout_s: 60\n",
        "    timeout_s: 60\n    pending: {owner: me, reason: no GPU here, needs: gpu, expires: 2199-12-31}\n",
    ),
    check=_check,
)
