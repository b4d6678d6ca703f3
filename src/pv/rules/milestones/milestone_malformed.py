"""A milestone does not say what it is and what it needs.

Its denominator would be another one than was meant: a misspelled key, a claim that is listed twice, or none.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.artifacts import Other
from pv.nearest import did_you_mean
from pv.rules.examples import MILESTONES_BASE, edit
from pv.rules.milestone_rows import Row, rows_of, top_of
from pv.rules.rule import STRICT, Around, Offence, Rule
from pv.tree.nodes import Scalar

_KEYS = ("id", "title", "claims")


def _check(document: Other, around: Around) -> Iterator[Offence]:
    yield from _keys(top_of(document), ("milestones",))
    seen: set[str] = set()
    for row in rows_of(document):
        yield from _wrong(row)
        if row.id in seen:
            yield Offence(row.place, f"the id {row.id} is that of another milestone", "give one another id")
        seen.add(row.id)


def _keys(keys: tuple[Scalar, ...], known: tuple[str, ...]) -> Iterator[Offence]:
    seen: set[str] = set()
    for key in keys:
        if key.text not in known:
            meant = did_you_mean(key.text, known) or f", which is none of {', '.join(known)}"
            yield Offence(key.place, f"the key is {key.text!r}{meant}", "correct or remove it")
        if key.text in seen:
            yield Offence(key.place, f"{key.text} is given a second time", "remove one of the two")
        seen.add(key.text)


def _wrong(row: Row) -> Iterator[Offence]:
    yield from _keys(row.keys, _KEYS)
    missing = [
        name for name, held in (("id", row.id), ("title", row.title), ("claims", row.claims)) if not held
    ]
    if missing:
        yield Offence(
            row.place, f"a milestone has no {' and no '.join(missing)}", f"state {', '.join(_KEYS)}"
        )
    names = [claim.name for claim in row.claims]
    for i, claim in enumerate(row.claims):
        if claim.name in names[:i]:
            yield Offence(claim.place, f"{claim.name} is listed twice", "remove one of the two")


RULE = Rule(
    page=__doc__,
    id="MILESTONE-001",
    name="milestone-malformed",
    profiles=STRICT,
    bad=edit("claims:", "claim:", base=MILESTONES_BASE),
    good=edit(
        "claims: [SPLIT-FAL-001]", 'claims: [SPLIT-FAL-001, "split-v1: FUNCTIONAL"]', base=MILESTONES_BASE
    ),
    check_document=_check,
)
