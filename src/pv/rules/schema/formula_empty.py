"""An equation has no formula.

A name is no equation: nothing can be derived from it and nothing can contradict it.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.blank import blank
from pv.rules.examples import edit
from pv.rules.rule import EVERY, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for equation in contract.equations:
        if blank(equation.formula):
            says = f"the equation {equation.name} has no formula"
            yield Offence(equation.where("formula"), says, "write the formula, or remove the equation")


RULE = Rule(
    page=__doc__,
    id="SCHEMA-004",
    name="formula-empty",
    profiles=EVERY,
    kernel_only=True,
    bad=edit("formula: train & val = {}", 'formula: ""'),
    good=edit("formula: train & val = {}", "formula: disjoint"),
    check=_check,
)
