"""A contract of kind `beat-benchmark` has no `beat` block.

It claims to beat somebody, and does not say at what.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import BEAT_BASE, edit
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    if contract.metadata.kind == "beat-benchmark" and contract.beat is None:
        yield Offence(contract.metadata.where("kind"), "there is no beat block", "say what is to be beaten")


RULE = Rule(
    page=__doc__,
    id="BEAT-001",
    name="beat-missing",
    profiles=SINCE_PV2,
    bad=edit("kind: beat-benchmark", "kind: beat-benchmark", "beat:\n", "spec:\n", base=BEAT_BASE),
    good=edit("  ci_gate_name: bench-start\n", "  ci_gate_name: bench-start-2\n", base=BEAT_BASE),
    check=_check,
)
