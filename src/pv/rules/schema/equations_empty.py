"""A kernel has no equations.

What a kernel computes is its equation; without one there is nothing that obligations could be about.
Contracts of other kinds are exempt, and so is the strict profile, which asks for obligations instead.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import FIELD_BASE, FIELD_EQUATIONS, edit
from pv.rules.rule import FIELD, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    if not contract.equations:
        yield Offence(contract.where("equations"), "equations is empty", "write down what is computed")


RULE = Rule(
    page=__doc__,
    id="SCHEMA-003",
    name="equations-empty",
    profiles=FIELD,
    kernel_only=True,
    bad=edit(FIELD_EQUATIONS, "equations: {}\n", base=FIELD_BASE),
    good=edit("    domain: x in R^n\n", "", base=FIELD_BASE),
    check=_check,
)
