"""The beat has no finite threshold.

No figure can be on the wrong side of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import BEAT_BASE, edit
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    if contract.metadata.kind != "beat-benchmark" or contract.beat is None:
        return
    beat = contract.beat

    if beat.beat_threshold is None or not math.isfinite(beat.beat_threshold):
        yield Offence(beat.where("beat_threshold"), "the beat has no finite threshold", "set beat_threshold")


RULE = Rule(
    page=__doc__,
    id="BEAT-005",
    name="threshold-missing",
    profiles=SINCE_PV2,
    bad=edit("beat_threshold: 150", "beat_threshold: .inf", base=BEAT_BASE),
    good=edit("beat_threshold: 150", "beat_threshold: 0", base=BEAT_BASE),
    check=_check,
)
