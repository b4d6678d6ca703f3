"""The milestones of a file, each with its places."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pv.artifacts import Other
from pv.tree.nodes import Block, Items, Node, Place, Scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """A claim that a milestone needs."""

    name: str  # "TOKENS-OBL-001", "tokens-v1: FUNCTIONAL"
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One milestone as it was written."""

    id: str
    title: str
    claims: tuple[Needed, ...]
    keys: tuple[Scalar, ...]
    place: Place


def top_of(document: Other) -> tuple[Scalar, ...]:
    """The keys of the file.

    Args:
        document: a file of milestones.
    """
    return tuple(entry.key for entry in document.root.entries) if isinstance(document.root, Block) else ()


def rows_of(document: Other) -> Iterator[Row]:
    """Each milestone; what is no mapping is one that says nothing.

    Args:
        document: a file of milestones.
    """
    listed = document.root.get("milestones") if isinstance(document.root, Block) else None
    for item in listed.items if isinstance(listed, Items) else ():
        block = item if isinstance(item, Block) else Block((), item.place, 1)
        yield Row(
            id=_text(block.get("id")),
            title=_text(block.get("title")),
            claims=tuple(_needed(block.get("claims"))),
            keys=tuple(entry.key for entry in block.entries),
            place=item.place,
        )


def _text(node: Node | None) -> str:
    return node.text.strip() if isinstance(node, Scalar) else ""


def _needed(node: Node | None) -> Iterator[Needed]:
    for item in node.items if isinstance(node, Items) else ():
        if isinstance(item, Block):  # `stem: STATUS` is a mapping in YAML unless it stands in quotes
            for entry in item.entries:
                yield Needed(name=f"{entry.key.text}: {_text(entry.value)}", place=item.place)
        else:
            yield Needed(name=_text(item), place=item.place)
