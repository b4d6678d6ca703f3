"""`demand_score` is not a whole number from 1 to 5.

Scores of several contracts are compared, and one from another scale decides the order.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.blocks import Story
from pv.contract.contract import Contract
from pv.contract.metadata import Metadata
from pv.rules.examples import edit
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    parts: list[Metadata | Story] = [contract.metadata, *contract.stories]
    for part in parts:
        score = part.demand_score
        if score is not None and score not in (1, 2, 3, 4, 5):
            says = f"demand_score is {score:g}, and must be a whole number from 1 to 5"
            yield Offence(part.where("demand_score"), says, "correct the score")


RULE = Rule(
    page=__doc__,
    id="CRUX-001",
    name="demand-out-of-range",
    profiles=SINCE_PV2,
    bad=edit("  depends_on: []\n", "  depends_on: []\n  competitor: vllm\n  demand_score: 0\n"),
    good=edit("  depends_on: []\n", "  depends_on: []\n  competitor: vllm\n  demand_score: 5\n"),
    check=_check,
)
