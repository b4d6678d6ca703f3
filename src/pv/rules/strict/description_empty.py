"""`metadata.description` is empty.

Whoever meets the contract in a list or in a red build does not learn what it is about.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.blank import blank
from pv.rules.examples import edit
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    if blank(contract.metadata.description):
        place = contract.metadata.where("description")
        yield Offence(place, "metadata.description is empty", "say in one sentence what is claimed")


RULE = Rule(
    page=__doc__,
    id="STRICT-032",
    name="description-empty",
    profiles=STRICT,
    bad=edit("description: The two sides of a split share no document.", 'description: " "'),
    good=edit("description: The two sides of a split share no document.", "description: Splits."),
    check=_check,
)
