"""Two bounded proofs of one file have the same id.

Evidence of one would count for the other.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import FIELD_BASE, edit
from pv.rules.repeated import repeated_ids
from pv.rules.rule import EVERY, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    yield from repeated_ids(contract.proofs, "bounded proof")


RULE = Rule(
    page=__doc__,
    id="SCHEMA-010",
    name="proof-id-repeated",
    profiles=EVERY,
    bad=edit(
        "qa_gate:\n",
        """  - id: KANI-SM-001
        obligation: SM-INV-002
        bound: 8
    qa_gate:
    """,
        base=FIELD_BASE,
    ),
    good=edit(
        "qa_gate:\n",
        """  - id: KANI-SM-002
        obligation: SM-INV-001
        bound: 16
    qa_gate:
    """,
        base=FIELD_BASE,
    ),
    check=_check,
)
