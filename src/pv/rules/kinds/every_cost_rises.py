"""Every metric that is a cost gets worse.

A metric is taken for a cost when its name ends in a unit of time, memory or money, or in errors or loss.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import KAIZEN_BASE, edit
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    if (kaizen := contract.kaizen) is None:
        return

    costs = [m for m in kaizen.target if m in kaizen.baseline and m.lower().endswith(COSTS)]
    if costs and all(kaizen.target[metric] > kaizen.baseline[metric] for metric in costs):
        says = f"every cost rises: {', '.join(costs)}"
        yield Offence(
            contract.where("target"), says, "say which cost falls, or name the metric for what it gains"
        )


COSTS = (
    "_ns",
    "_us",
    "_ms",
    "_s",
    "_seconds",
    "_minutes",
    "_bytes",
    "_kb",
    "_mb",
    "_gb",
    "_usd",
    "errors",
    "loss",
)


RULE = Rule(
    page=__doc__,
    id="KAIZEN-006",
    name="every-cost-rises",
    profiles=SINCE_PV2,
    bad=edit(
        "target: {start_ms: 150, memory_mb: 95}", "target: {start_ms: 210, memory_mb: 95}", base=KAIZEN_BASE
    ),
    good=edit(
        "target: {start_ms: 150, memory_mb: 95}", "target: {start_ms: 200, memory_mb: 95}", base=KAIZEN_BASE
    ),
    check=_check,
)
