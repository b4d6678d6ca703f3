"""No falsification test refutes an obligation.

It is a claim that nothing could show to be false. A bounded proof alone does not count: it covers its bound only.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.contract.obligation import NOT_APPLICABLE
from pv.rules.examples import edit
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    refuted = {name for test in contract.tests for name in test.refutes}
    for obligation in contract.obligations:
        if obligation.id and obligation.id not in refuted and obligation.applies_to != NOT_APPLICABLE:
            says = f"no test of this contract refutes {obligation.id}"
            yield Offence(obligation.where("id"), says, "write one, or add the id to the refutes of one")


RULE = Rule(
    page=__doc__,
    id="STRICT-007",
    name="obligation-unrefuted",
    profiles=STRICT,
    bad=edit(
        "falsification_tests:\n",
        "  - {id: SPLIT-OBL-002, property: every document has a side}\nfalsification_tests:\n",
    ),
    good=edit(
        "falsification_tests:\n",
        "  - {id: SPLIT-OBL-002, property: every document has a side}\nfalsification_tests:\n",
        "refutes: [SPLIT-OBL-001]",
        "refutes: [SPLIT-OBL-001, SPLIT-OBL-002]",
    ),
    check=_check,
)
