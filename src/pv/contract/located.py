"""What every part of a contract has: the values, and where each of them stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pv.tree.nodes import Block, Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A part of a contract. Two parts with the same values are equal, wherever they stand."""

    node: Block = field(compare=False, repr=False)  # the part as it was written, unknown keys included
    places: Mapping[str, Place] = field(
        compare=False, repr=False
    )  # of each field that was given; "refutes[1]" too

    @property
    def place(self) -> Place:
        """Where the part begins and ends."""
        return self.node.place

    def where(self, name: str) -> Place:
        """Where a field's value stands; where the part stands when the field was not given.

        Args:
            name: the field's name here, whatever it is called in the file; "refutes[1]" for an item of a list.
        """
        return self.places.get(name, self.place)

    def has(self, name: str) -> bool:
        """Whether the field was given, be it empty."""
        return name in self.places
