"""Compare what releases need: a claim that is needed no more makes a release easier to reach."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pv.artifacts import Artifact, Other
from pv.change.change import Change, Kind
from pv.change.compare_values import Difference, arrow, difference, words
from pv.contract.metadata import STATUSES
from pv.rules.milestone_rows import Row, rows_of


def compare_milestones(old: Iterable[Artifact], new: Iterable[Artifact]) -> tuple[Change, ...]:
    """What became of the milestones of a folder.

    Args:
        old: what was read of it, as it was.
        new: what is read of it now.
    """
    return tuple(_changes(_milestones(old), _milestones(new)))


def _milestones(artifacts: Iterable[Artifact]) -> dict[str, Row]:
    """Milestones by id."""
    documents = [a for a in artifacts if isinstance(a, Other) and a.shape == "milestones"]
    return {row.id: row for document in documents for row in rows_of(document)}


def _changes(old: dict[str, Row], new: dict[str, Row]) -> Iterator[Change]:
    for name in dict.fromkeys([*old, *new]):
        for found in _differences(old.get(name), new.get(name)):
            yield Change(
                contract="milestones",
                claim=name,
                kind=found.kind,
                says=found.says,
                must_be_waived=found.must_be_waived,
            )


def _differences(old: Row | None, new: Row | None) -> Iterator[Difference]:
    if old is None or new is None:
        kind = Kind.ADDED if old is None else Kind.REMOVED
        yield difference(kind, f"the milestone was {kind.value}")
        return
    yield from words("title", old.title, new.title)
    before, after = _needs(old), _needs(new)
    for name in dict.fromkeys([*before, *after]):
        if name not in after:
            yield difference(Kind.WEAKENED, f"claims without {name}")
        elif name not in before:
            yield difference(Kind.STRENGTHENED, f"claims with {name}")
        elif before[name] != after[name]:
            kind = Kind.STRENGTHENED if _rank(after[name]) > _rank(before[name]) else Kind.WEAKENED
            yield difference(kind, arrow(name, before[name], after[name]))


def _needs(row: Row) -> dict[str, str]:
    """Each claim with no word, and each contract with the status that it must have."""
    parted = [claim.name.partition(":") for claim in row.claims]
    return {name: status.strip() for name, _, status in parted}


def _rank(status: str) -> int:
    return STATUSES.index(status) if status in STATUSES else -1
