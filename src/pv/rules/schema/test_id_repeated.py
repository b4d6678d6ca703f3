"""Two falsification tests of one file have the same id.

`pv falsify --only ID`, evidence and reports could mean either.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import FALSIFIERS, edit
from pv.rules.repeated import repeated_ids
from pv.rules.rule import EVERY, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    yield from repeated_ids(contract.tests, "falsification test")


_SECOND = FALSIFIERS.partition("\n")[2]

RULE = Rule(
    page=__doc__,
    id="SCHEMA-007",
    name="test-id-repeated",
    profiles=EVERY,
    bad=edit(FALSIFIERS, FALSIFIERS + _SECOND),
    good=edit(FALSIFIERS, FALSIFIERS + _SECOND.replace("FAL-001", "FAL-002")),
    check=_check,
)
