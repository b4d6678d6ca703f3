"""The beat names no CI gate.

Nothing measures it again when the program changes.
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

    if blank(beat.ci_gate_name):
        yield Offence(
            beat.where("ci_gate_name"), "the beat names no ci_gate_name", "name the job that measures it"
        )


RULE = Rule(
    page=__doc__,
    id="BEAT-006",
    name="beat-gate-missing",
    profiles=SINCE_PV2,
    bad=edit("  ci_gate_name: bench-start\n", "", base=BEAT_BASE),
    good=edit("ci_gate_name: bench-start", "ci_gate_name: 1", base=BEAT_BASE),
    check=_check,
)
