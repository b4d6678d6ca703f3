"""Ids that stand twice in one file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from pv.rules.rule import Offence
from pv.tree.nodes import Place


class Named(Protocol):
    """A part of a contract with an id."""

    @property
    def id(self) -> str | None:
        """The id."""
        ...

    def where(self, name: str) -> Place:
        """Where a field stands."""
        ...


def repeated_ids(parts: Iterable[Named], what: str) -> Iterator[Offence]:
    """An offence for every part whose id an earlier one has.

    Args:
        parts: parts of one contract, in order.
        what: what they are, in words.
    """
    first: dict[str, int] = {}
    for part in parts:
        if not part.id:
            continue
        place = part.where("id")
        if part.id in first:
            says = f"the id {part.id} is that of the {what} in line {first[part.id]}"
            yield Offence(place, says, "give one of the two another id")
        first.setdefault(part.id, place.line)
