"""A target has no baseline of the same name.

Whether the target is a gain cannot be said.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import KAIZEN_BASE, edit
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    if (kaizen := contract.kaizen) is None:
        return

    for metric in kaizen.target:
        if metric not in kaizen.baseline:
            says = f"the target {metric} has no baseline"
            yield Offence(contract.where("target"), says, "measure it before, and write it under baseline")


RULE = Rule(
    page=__doc__,
    id="KAIZEN-004",
    name="target-without-baseline",
    profiles=SINCE_PV2,
    bad=edit("baseline: {start_ms: 200, memory_mb: 90}", "baseline: {start_ms: 200}", base=KAIZEN_BASE),
    good=edit(
        "baseline: {start_ms: 200, memory_mb: 90}",
        "baseline: {start_ms: 200, memory_mb: 90, tests: 3}",
        base=KAIZEN_BASE,
    ),
    check=_check,
)
