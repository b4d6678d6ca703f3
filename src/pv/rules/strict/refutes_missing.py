"""A falsification test does not say which obligations it refutes.

When it fails, nobody knows which claim has fallen; when it passes, it seems to speak for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import edit
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for test in contract.tests:
        if not test.refutes:
            yield Offence(
                test.where("refutes"), f"the test {test.id} refutes nothing", "name the ids of obligations"
            )


RULE = Rule(
    page=__doc__,
    id="STRICT-005",
    name="refutes-missing",
    profiles=STRICT,
    bad=edit("    refutes: [SPLIT-OBL-001]\n", ""),
    good=edit("refutes: [SPLIT-OBL-001]", "refutes: SPLIT-OBL-001"),
    check=_check,
)
