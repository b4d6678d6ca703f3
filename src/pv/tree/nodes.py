"""A YAML document as a tree of values that know where they stand.

Scalars stay text: what a text means is for the field that wants it to say (pv.tree.scalars).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Place:
    """A stretch of a file: line and column count from 1, the end is the first character behind it."""

    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Scalar:
    """A text; `plain` when it stood without quotes, so that it may be a number, a truth value or nothing."""

    text: str
    plain: bool
    place: Place = field(compare=False)

    size = 1


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: tuple[Node, ...]
    place: Place = field(compare=False)
    size: int = field(
        compare=False, repr=False
    )  # nodes below it, with every alias counted as what it stands for


@dataclass(frozen=True, slots=True)
class Entry:
    """A key with its value."""

    key: Scalar
    value: Node


@dataclass(frozen=True, slots=True)
class Block:
    """A mapping, with all its entries in order: a key that stands twice is here twice."""

    entries: tuple[Entry, ...]
    place: Place = field(compare=False)
    size: int = field(compare=False, repr=False)

    def get(self, key: str) -> Node | None:
        """The value of the last entry with that key; None without one."""
        for entry in reversed(self.entries):
            if entry.key.text == key:
                return entry.value
        return None

    def repeated(self) -> Iterator[Scalar]:
        """Keys that an earlier entry has already."""
        seen: set[str] = set()
        for entry in self.entries:
            if entry.key.text in seen:
                yield entry.key
            seen.add(entry.key.text)


Node: TypeAlias = Scalar | Items | Block


def walk(node: Node) -> Iterator[Node]:
    """The node and all below it, each once: what an alias stands for is not visited again."""
    seen: set[int] = set()
    waiting = [node]
    while waiting:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        waiting.extend(reversed(_children(found)))


def _children(node: Node) -> list[Node]:
    if isinstance(node, Items):
        return list(node.items)
    if isinstance(node, Block):
        return [part for entry in node.entries for part in (entry.key, entry.value)]
    return []
