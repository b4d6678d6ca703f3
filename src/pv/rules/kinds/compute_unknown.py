"""The approved compute is neither `CPU` nor `GPU`.

A win on one says nothing about the other.
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

    if beat.approved_compute not in ("CPU", "GPU"):
        says = f"approved_compute {beat.approved_compute or 'is missing and'} is not CPU or GPU"
        yield Offence(beat.where("approved_compute"), says, "write CPU or GPU")


RULE = Rule(
    page=__doc__,
    id="BEAT-007",
    name="compute-unknown",
    profiles=SINCE_PV2,
    bad=edit("approved_compute: CPU", "approved_compute: cpu", base=BEAT_BASE),
    good=edit("approved_compute: CPU", "approved_compute: GPU", base=BEAT_BASE),
    check=_check,
)
