"""The beat names no metric.

A threshold without a metric is passed by any number.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.blank import blank
from pv.rules.examples import BEAT_BASE, edit
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    if contract.metadata.kind != "beat-benchmark" or contract.beat is None:
        return
    beat = contract.beat

    if blank(beat.metric):
        yield Offence(
            beat.where("metric"), "the beat names no metric", "name what is measured, with its unit"
        )


RULE = Rule(
    page=__doc__,
    id="BEAT-003",
    name="metric-empty",
    profiles=SINCE_PV2,
    bad=edit("metric: start_ms", 'metric: ""', base=BEAT_BASE),
    good=edit("metric: start_ms", "metric: ms", base=BEAT_BASE),
    check=_check,
)
