"""Two bounded proofs of one file have the same id.

Evidence of one would count for the other.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import FIELD_BASE, FIELD_PROOFS, edit
from pv.rules.repeated import repeated_ids
from pv.rules.rule import EVERY, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    yield from repeated_ids(contract.proofs, "bounded proof")


_SECOND = FIELD_PROOFS.partition("\n")[2]

RULE = Rule(
    page=__doc__,
    id="SCHEMA-010",
    name="proof-id-repeated",
    profiles=EVERY,
    bad=edit(FIELD_PROOFS, FIELD_PROOFS + _SECOND, base=FIELD_BASE),
    good=edit(FIELD_PROOFS, FIELD_PROOFS + _SECOND.replace("001", "002", 1), base=FIELD_BASE),
    check=_check,
)
