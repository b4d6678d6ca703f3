"""A falsification test does not say what its failure means.

Whoever meets the failure has to find out alone what is broken and who is hit by it.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.finding import Severity
from pv.rules.blank import blank
from pv.rules.examples import edit
from pv.rules.rule import EVERY, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for test in contract.tests:
        if blank(test.if_fails):
            says = f"the test {test.id} has no if_fails"
            yield Offence(test.where("if_fails"), says, "say what is wrong with the program when it fails")


RULE = Rule(
    page=__doc__,
    id="SCHEMA-009",
    name="if-fails-empty",
    profiles=EVERY,
    severity=Severity.WARNING,
    bad=edit("if_fails: the validation loss is measured on text that was trained on", 'if_fails: ""'),
    good=edit("if_fails: the", "fails_if: the"),
    check=_check,
)
