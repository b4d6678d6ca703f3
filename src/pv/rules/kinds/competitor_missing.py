"""A row of `stories` names no competitor, or `competitor` is blank.

A demand that no rival serves is a wish, and the list is of what others have and we do not. The field's own list of 18
names is not among what we could read, so a name is not compared with it.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.blank import blank
from pv.rules.examples import edit
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for story in contract.stories:
        if blank(story.competitor):
            yield Offence(story.where("competitor"), "the story names no competitor", "name who has it")
    named = contract.metadata.competitor
    if named is not None and blank(named):
        says = "metadata.competitor is blank"
        yield Offence(contract.metadata.where("competitor"), says, "name who has it, or remove the key")


RULE = Rule(
    page=__doc__,
    id="CRUX-002",
    name="competitor-missing",
    profiles=SINCE_PV2,
    bad=edit("equations:\n", "stories: [{id: S-1, demand_score: 3}]\nequations:\n"),
    good=edit("equations:\n", "stories: [{id: S-1, demand_score: 3, competitor: vllm}]\nequations:\n"),
    check=_check,
)
