"""`metadata.references` is empty or absent.

Nobody can look up where the claim comes from, so nobody can say later what it was meant to mean.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.profile import Profile
from pv.rules.blank import blank
from pv.rules.examples import edit
from pv.rules.rule import EVERY, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    if not contract.metadata.references:
        yield Offence(contract.metadata.where("references"), "metadata.references is empty", _FIX)
    for i, reference in enumerate(contract.metadata.references):
        if blank(reference) and contract.profile is Profile.STRICT:
            yield Offence(contract.metadata.where(f"references[{i}]"), "the reference is empty", _FIX)


_FIX = "name the paper, issue or document that the claim comes from"

RULE = Rule(
    page=__doc__,
    id="SCHEMA-001",
    name="references-missing",
    profiles=EVERY,
    bad=edit("references: [docs/split.md]", "references: []"),
    good=edit("references: [docs/split.md]", 'references: ["the talk of 3 May"]'),
    check=_check,
)
