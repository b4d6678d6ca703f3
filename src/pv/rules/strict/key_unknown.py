"""A key belongs to no field.

It is ignored, and whatever its author wanted it to say is not said: a misspelled `control` is no control.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.nearest import did_you_mean
from pv.rules.examples import edit
from pv.rules.near_miss import near_miss
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for key in contract.unknown_keys:
        if key.within or (key.name != "kind" and near_miss(key.name) is None):
            path = f"{key.within}.{key.name}" if key.within else key.name
            says = f"the key {path} belongs to no field{did_you_mean(key.name, key.accepted)}"
            yield Offence(key.place, says, "correct the key, or move the text to a comment")


RULE = Rule(
    page=__doc__,
    id="STRICT-001",
    name="key-unknown",
    profiles=STRICT,
    bad=edit("    timeout_s: 60\n", "    time_out_s: 60\n"),
    good=edit("    timeout_s: 60\n", "    timeout_s: 60 # time_out_s: 60\n"),
    check=_check,
)
