"""The direction is neither `higher_is_better` nor `lower_is_better`.

Which side of the threshold wins would be a guess.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import BEAT_BASE, edit
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    if contract.metadata.kind != "beat-benchmark" or contract.beat is None:
        return
    beat = contract.beat

    if beat.direction not in ("higher_is_better", "lower_is_better"):
        says = f"the direction {beat.direction or 'is missing and'} is no direction"
        yield Offence(beat.where("direction"), says, "write higher_is_better or lower_is_better")


RULE = Rule(
    page=__doc__,
    id="BEAT-004",
    name="direction-unknown",
    profiles=SINCE_PV2,
    bad=edit("lower_is_better", "lower", base=BEAT_BASE),
    good=edit("lower_is_better", "higher_is_better", base=BEAT_BASE),
    check=_check,
)
