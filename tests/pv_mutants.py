"""Every key and every item of a contract deleted, misspelled, moved and changed in turn, on the tree of its document.

What an alias stands for is changed once, in all the places that it stands in, as a change of the file would.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from pv.tree.nodes import Block, Entry, Items, Node, Scalar
from pv.tree.scalars import is_null, number, truth

Way: TypeAlias = tuple[int, ...]  # the number of an entry or item, from the top
_DIGITS = re.compile(r"\d+")
_WORD = re.compile(r"[A-Za-z]{2,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A contract with one thing changed."""

    how: str  # "delete", "misspell", "swap", "up", ...
    key: str  # its way from the top: "falsification_tests[].runner.pytest[]"
    was: str  # the text that stood there, if it was one
    root: Block = field(repr=False)


@dataclass(slots=True, kw_only=True)
class _Spot:
    """A list or mapping of the document: what it is called, and every way to it."""

    node: Block | Items
    key: str
    ways: list[Way]


def mutants(root: Block) -> Iterator[Mutant]:
    """All mutants of a contract.

    Args:
        root: of its document.
    """
    spots: dict[int, _Spot] = {}
    _find(root, "", (), spots)
    pools = _pools(spots)
    for spot in spots.values():
        for how, key, was, node in _changed(spot, pools):
            mutated: Node = root
            for way in spot.ways:
                mutated = _put(mutated, way, node)
            assert isinstance(mutated, Block)
            yield Mutant(how=how, key=key, was=was, root=mutated)


def _find(node: Node, key: str, way: Way, spots: dict[int, _Spot]) -> None:
    if isinstance(node, Scalar):
        return
    spots.setdefault(id(node), _Spot(node=node, key=key, ways=[])).ways.append(way)
    for i, child in enumerate(_children(node)):
        _find(child, _below(key, node, i), (*way, i), spots)


def _children(node: Block | Items) -> tuple[Node, ...]:
    return node.items if isinstance(node, Items) else tuple(entry.value for entry in node.entries)


def _below(key: str, node: Block | Items, i: int) -> str:
    """What a child is called; names that are free are NAME."""
    if isinstance(node, Items):
        return f"{key}[]"
    is_free = key == "equations" or key.endswith(".env")
    name = "NAME" if is_free else node.entries[i].key.text
    return f"{key}.{name}" if key else name


def _put(node: Node, way: Way, new: Node) -> Node:
    """The tree with another node in one place."""
    if not way:
        return new
    assert not isinstance(node, Scalar)
    return _with(node, way[0], _put(_children(node)[way[0]], way[1:], new))


def _with(node: Block | Items, i: int, child: Node) -> Block | Items:
    if isinstance(node, Items):
        return replace(node, items=(*node.items[:i], child, *node.items[i + 1 :]))
    entry = Entry(node.entries[i].key, child)
    return replace(node, entries=(*node.entries[:i], entry, *node.entries[i + 1 :]))


def _pools(spots: dict[int, _Spot]) -> dict[str, list[Scalar]]:
    """The values that stand under each key, to take one for another."""
    pools: dict[str, dict[str, Scalar]] = {}
    for spot in spots.values():
        for i, child in enumerate(_children(spot.node)):
            if isinstance(child, Scalar):
                pools.setdefault(_below(spot.key, spot.node, i), {})[child.text] = child
    return {key: list(pool.values()) for key, pool in pools.items()}


def _changed(spot: _Spot, pools: dict[str, list[Scalar]]) -> Iterator[tuple[str, str, str, Node]]:
    """Each change of one list or mapping: how, the key, what stood there, the list or mapping after it."""
    for i, child in enumerate(_children(spot.node)):
        key, was = _below(spot.key, spot.node, i), child.text if isinstance(child, Scalar) else ""
        for how, node in (*_of_list(spot.node, i), *_of_mapping(spot.node, i)):
            yield how, key, was, node
        for how, value in _values(child, pools.get(key, [])):
            yield how, key, was, _with(spot.node, i, value)


def _of_list(node: Node, i: int) -> Iterator[tuple[str, Node]]:
    if not isinstance(node, Items):
        return
    before, item, after = node.items[:i], node.items[i], node.items[i + 1 :]
    yield "delete", replace(node, items=before + after)
    yield "double", replace(node, items=(*before, item, _elsewhere(item), *after))
    if after:
        yield "swap", replace(node, items=(*before, after[0], item, *after[1:]))


def _of_mapping(node: Node, i: int) -> Iterator[tuple[str, Node]]:
    if not isinstance(node, Block):
        return
    before, entry, after = node.entries[:i], node.entries[i], node.entries[i + 1 :]
    typo = Entry(replace(entry.key, text=entry.key.text + "x"), entry.value)
    yield "delete", replace(node, entries=before + after)
    yield "misspell", replace(node, entries=(*before, typo, *after))
    yield (
        "double",
        replace(node, entries=(*before, entry, Entry(_key(entry), _elsewhere(entry.value)), *after)),
    )
    if after:
        yield "swap", replace(node, entries=(*before, after[0], entry, *after[1:]))


def _elsewhere(node: Node) -> Node:
    """The same in another place of the file."""
    place = replace(node.place, column=node.place.column + 1000)
    if isinstance(node, Scalar):
        return replace(node, place=place)
    if isinstance(node, Items):
        return replace(node, items=tuple(map(_elsewhere, node.items)), place=place)
    entries = tuple(Entry(_key(entry), _elsewhere(entry.value)) for entry in node.entries)
    return replace(node, entries=entries, place=place)


def _key(entry: Entry) -> Scalar:
    return replace(entry.key, place=replace(entry.key.place, column=entry.key.place.column + 1000))


def _values(node: Node, pool: list[Scalar]) -> Iterator[tuple[str, Node]]:
    """Other values of the same type, and none."""
    if not is_null(node):
        yield "null", Scalar("null", True, node.place)
    if isinstance(node, Items):
        yield "empty", replace(node, items=())
    elif isinstance(node, Block):
        yield "empty", replace(node, entries=())
    else:
        yield from _scalars(node)
        if len(pool) > 1:
            at = next(i for i, other in enumerate(pool) if other.text == node.text)
            yield "other", replace(pool[(at + 1) % len(pool)], place=node.place)


def _scalars(node: Scalar) -> Iterator[tuple[str, Node]]:
    value = number(node)
    if truth(node) is not None:
        yield "flip", replace(node, text="false" if truth(node) else "true")
    elif value is not None:
        step = 1 if isinstance(value, int) else abs(value) / 2 or 0.5
        yield "up", replace(node, text=repr(value + step))
        yield "down", replace(node, text=repr(value - step))
    elif not is_null(node):
        yield from ((how, Scalar(text, False, node.place)) for how, text in _texts(node.text))


def _texts(text: str) -> Iterator[tuple[str, str]]:
    if text:
        yield "empty", ""
    if found := _DIGITS.search(text):
        yield "number", f"{text[: found.start()]}{int(found[0]) + 1:0{len(found[0])}d}{text[found.end() :]}"
    if words := _WORD.findall(text):
        yield "word", text.replace(max(words, key=len), "elsewise", 1)
    if " " in text:
        yield "negate", f"not {text}"
    elif text:
        yield "typo", f"{text}x"
