"""A milestone needs a claim that no contract has.

It was renamed or removed, and the milestone can never be reached. Asked where the contracts are judged with it.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.artifacts import Other
from pv.contract.metadata import STATUSES
from pv.corpus import Corpus
from pv.nearest import did_you_mean
from pv.rules.examples import MILESTONES_BASE, STRICT_BASE, Example
from pv.rules.milestone_rows import rows_of
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(document: Other, around: Around) -> Iterator[Offence]:
    if not around.corpus.contracts or around.corpus.unreadable:  # not all of them are known
        return
    for row in rows_of(document):
        for claim in row.claims:
            if not _is_known(claim.name, around.corpus):
                known = [found.id for claims in around.corpus.claims.values() for found in claims]
                says = f"no contract has {claim.name}{did_you_mean(claim.name, known)}"
                yield Offence(claim.place, says, "name a claim, or a contract with a status")


def _is_known(name: str, corpus: Corpus) -> bool:
    stem, colon, status = name.partition(":")
    if colon:
        return stem in corpus.contracts and status.strip() in STATUSES
    return any(claim.id == name for claim in corpus.claims.get(name.lower(), ()))


_BESIDE = (("split-v1", STRICT_BASE),)

RULE = Rule(
    page=__doc__,
    id="MILESTONE-002",
    name="milestone-claim-unknown",
    profiles=STRICT,
    bad=Example(base=MILESTONES_BASE, changes=(("[SPLIT-FAL-001]", "[SPLIT-FAL-002]"),), beside=_BESIDE),
    good=Example(
        base=MILESTONES_BASE,
        changes=(("[SPLIT-FAL-001]", '[SPLIT-OBL-001, "split-v1: FUNCTIONAL"]'),),
        beside=_BESIDE,
    ),
    check_document=_check,
)
