"""`created` or `updated` is no day.

It cannot be compared with the date of the evidence.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.dates import day_of
from pv.rules.examples import edit
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for name in ("created", "updated"):
        value = getattr(contract.metadata, name)
        if value is not None and day_of(value) is None:
            yield Offence(
                contract.metadata.where(name), f"{name} is {value!r}, which is no day", "write YYYY-MM-DD"
            )


RULE = Rule(
    page=__doc__,
    id="STRICT-028",
    name="day-malformed",
    profiles=STRICT,
    bad=edit("created: 2026-02-18", "created: 2026-02-30"),
    good=edit("created: 2026-02-18", 'created: "2024-02-29"'),
    check=_check,
)
