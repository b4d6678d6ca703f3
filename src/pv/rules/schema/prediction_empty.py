"""A falsification test predicts nothing.

What was not said before the test ran cannot be contradicted by it.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.blank import blank
from pv.rules.examples import edit
from pv.rules.rule import EVERY, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for test in contract.tests:
        if blank(test.prediction):
            says = f"the test {test.id} has no prediction"
            yield Offence(test.where("prediction"), says, "say what will be seen, with its number")


RULE = Rule(
    page=__doc__,
    id="SCHEMA-008",
    name="prediction-empty",
    profiles=EVERY,
    bad=edit("prediction: 0 of 1,000 documents are on both sides", 'prediction: ""'),
    good=edit(
        "prediction: 0 of 1,000 documents are on both sides",
        "expected: 0 of 1,000 documents are on both sides",
    ),
    check=_check,
)
