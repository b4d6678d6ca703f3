"""A kaizen has no target, no invariants and no falsification tests.

Nothing that happens can show that it failed.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import KAIZEN_BASE, edit
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    if (kaizen := contract.kaizen) is None:
        return

    if not kaizen.target and kaizen.invariants is None and not contract.tests:
        yield Offence(
            contract.where("target"), "nothing here can fail", "state a target, an invariant or a test"
        )


RULE = Rule(
    page=__doc__,
    id="KAIZEN-003",
    name="kaizen-unfalsifiable",
    profiles=SINCE_PV2,
    bad=edit(
        "baseline: {start_ms: 200, memory_mb: 90}\n",
        "",
        "target: {start_ms: 150, memory_mb: 95}\n",
        "",
        "invariants: [the output is the same]\n",
        "",
        base=KAIZEN_BASE,
    ),
    good=edit(
        "baseline: {start_ms: 200, memory_mb: 90}\n",
        "",
        "target: {start_ms: 150, memory_mb: 95}\n",
        "",
        base=KAIZEN_BASE,
    ),
    check=_check,
)
