"""`metadata.references` is empty or absent.

Nobody can look up where the claim comes from, so nobody can say later what it was meant to mean.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import edit
from pv.rules.rule import EVERY, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    if not contract.metadata.references:
        fix = "name the paper, issue or document that the claim comes from"
        yield Offence(contract.metadata.where("references"), "metadata.references is empty", fix)


RULE = Rule(
    page=__doc__,
    id="SCHEMA-001",
    name="references-missing",
    profiles=EVERY,
    bad=edit("references: [docs/split.md]", "references: []"),
    good=edit("references: [docs/split.md]", 'references: ["the talk of 3 May"]'),
    check=_check,
)
