"""Every target equals its baseline.

The improvement improves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import KAIZEN_BASE, edit
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    if (kaizen := contract.kaizen) is None:
        return

    compared = set(kaizen.target) & set(kaizen.baseline)
    if compared and all(kaizen.target[metric] == kaizen.baseline[metric] for metric in compared):
        yield Offence(
            contract.where("target"), "no target differs from its baseline", "state what is to change"
        )


RULE = Rule(
    page=__doc__,
    id="KAIZEN-005",
    name="no-metric-moves",
    profiles=SINCE_PV2,
    bad=edit(
        "target: {start_ms: 150, memory_mb: 95}", "target: {start_ms: 200, memory_mb: 90}", base=KAIZEN_BASE
    ),
    good=edit(
        "target: {start_ms: 150, memory_mb: 95}", "target: {start_ms: 199, memory_mb: 90}", base=KAIZEN_BASE
    ),
    check=_check,
)
