"""A key at the top is a schema name but for case, separators or a plural.

The whole block below it is ignored, and everything that it claims with it.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import FIELD_BASE, edit
from pv.rules.near_miss import near_miss
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for key in contract.unknown_keys:
        meant = None if key.within else near_miss(key.name)
        if meant is not None:
            yield Offence(key.place, f"the key {key.name} is not read", f"write {meant}")


RULE = Rule(
    page=__doc__,
    id="SCHEMA-019",
    name="key-misspelled",
    profiles=SINCE_PV2,
    bad=edit("qa_gate:\n", "qa_gates:\n", base=FIELD_BASE),
    good=edit("qa_gate:\n", "status: {}\nqa_gate:\n", base=FIELD_BASE),
    check=_check,
)
