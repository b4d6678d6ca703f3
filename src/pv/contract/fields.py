"""Read the fields of one mapping, by name and type, and collect what is wrong with all of them.

The same reading serves the three profiles: a field of a later profile is absent under an earlier one, which does not
know it. Problems are collected rather than raised, so that one run names them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from pv.contract.reading import Problem, Reading, UnknownKey
from pv.nearest import did_you_mean
from pv.profile import Profile
from pv.tree.nodes import Block, Items, Node, Place, Scalar
from pv.tree.scalars import is_null, number, truth

T = TypeVar("T")
_U32 = 2**32 - 1


class Fields:
    """The entries of a mapping, taken one by one."""

    def __init__(self, node: Node, within: str, reading: Reading) -> None:
        self.within = within
        self.reading = reading
        self._known = True
        self._accepted: list[str] = []
        self._places: dict[str, Place] = {}
        if isinstance(node, Block):
            self.node = node
        else:
            self.problem(node.place, f"{within or 'the document'} is {_kind(node)}, and must be a mapping")
            self.node = Block((), node.place, 1)
        self._entries: dict[str, list[Any]] = {}
        for entry in self.node.entries:
            self._entries.setdefault(entry.key.text, []).append(entry)

    def later(self, profile: Profile) -> Fields:
        """The same fields for names that came with a later profile: all absent under an earlier one."""
        view = object.__new__(Fields)
        view.__dict__.update(self.__dict__)
        view._known = self.reading.profile >= profile
        return view

    def problem(self, place: Place, says: str) -> None:
        """Note that a value cannot be read."""
        self.reading.problems.append(Problem(place=place, says=says))

    def path(self, name: str) -> str:
        """The name of a field as a message spells it."""
        return f"{self.within}.{name}" if self.within else name

    def take(self, name: str, *aliases: str) -> Node | None:
        """The value of a field as it was written; None when it was not given.

        Args:
            name: what the field is called.
            aliases: other spellings in the file.
        """
        if not self._known:
            return None
        self._accepted += (name, *aliases)
        found = [entry for key in (name, *aliases) for entry in self._entries.get(key, ())]
        if not found:
            return None
        if len(found) > 1:
            again = found[1].key
            self.problem(again.place, f"{self.path(name)} is given a second time, as {again.text}")
        self._places[name] = found[0].value.place
        return found[0].value

    def text(self, name: str, *aliases: str) -> str:
        """A field that must be given: the raw text of its scalar."""
        node = self.take(name, *aliases)
        if node is None:
            if self._known:
                self.problem(self.node.place, f"{self.path(name)} is missing")
            return ""
        if self.reading.profile is Profile.STRICT and is_null(node):
            return ""
        return self.as_text(node, self.path(name))

    def optional_text(self, name: str, *aliases: str) -> str | None:
        """The raw text of a scalar; None when absent or null. Empty in quotes is present."""
        node = self.take(name, *aliases)
        return None if node is None or is_null(node) else self.as_text(node, self.path(name))

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; empty when absent."""
        node = self.take(name)
        return () if node is None else self._text_items(node, name)

    def one_or_more(self, name: str, *aliases: str) -> tuple[str, ...]:
        """One text or a list of them; empty when absent or null."""
        node = self.take(name, *aliases)
        if node is None or is_null(node):
            return ()
        if isinstance(node, Scalar):
            self._places[f"{name}[0]"] = node.place
            return (node.text,)
        return self._text_items(node, name)

    def number(self, name: str) -> float | None:
        """A number; None when absent or null."""
        node = self.take(name)
        if node is None or is_null(node):
            return None
        value = number(node) if isinstance(node, Scalar) else None
        if value is None:
            self.problem(node.place, f"{self.path(name)} is {_kind(node)}, and must be a number")
        return value

    def count(self, name: str) -> int | None:
        """A whole number of 0 to 2^32 - 1; None when absent or null."""
        value = self.number(name)
        if value is None:
            return None
        if isinstance(value, int) and 0 <= value <= _U32:
            return value
        self.problem(
            self.place_of(name), f"{self.path(name)} is {value}, and must be a whole number from 0 to {_U32}"
        )
        return None

    def flag(self, name: str) -> bool:
        """true or false; false when absent."""
        node = self.take(name)
        if node is None or is_null(node):
            return False
        value = truth(node) if isinstance(node, Scalar) else None
        if value is None:
            self.problem(node.place, f"{self.path(name)} is {_kind(node)}, and must be true or false")
        return bool(value)

    def choice(
        self, name: str, options: Iterable[str], default: str | None = None, *, required: bool = False
    ) -> str | None:
        """One of some words, in their own case.

        Args:
            name: what the field is called.
            options: the words.
            default: the value when the field is absent or null.
            required: whether the field must be given.
        """
        node = self.take(name)
        if (node is None or is_null(node)) and required:
            self.problem(self.node.place, f"{self.path(name)} is missing")
        if node is None or is_null(node):
            return default
        value = self.as_text(node, self.path(name))
        if value not in (words := tuple(options)):
            meant = did_you_mean(value, words) or f", which is none of {', '.join(words)}"
            self.problem(node.place, f"{self.path(name)} is {value!r}{meant}")
            return default
        return value

    def child(self, name: str, read: Callable[[Fields], T]) -> T | None:
        """A mapping with fields of its own; None when absent or null."""
        node = self.take(name)
        return None if node is None or is_null(node) else read(self.within_of(node, self.path(name)))

    def children(self, name: str, read: Callable[[Fields], T]) -> tuple[T, ...]:
        """A list of mappings; empty when absent."""
        node = self.take(name)
        if node is None:
            return ()
        if not isinstance(node, Items):
            self.problem(node.place, f"{self.path(name)} is {_kind(node)}, and must be a list")
            return ()
        return tuple(
            read(self.within_of(item, f"{self.path(name)}[{i}]")) for i, item in enumerate(node.items)
        )

    def named(self, name: str, read: Callable[[str, Fields], T]) -> dict[str, T]:
        """A mapping from free names to mappings; empty when absent. Of a name that stands twice the last counts.

        Args:
            name: what the field is called.
            read: makes a value from a free name and the fields that stand under it.
        """
        node = self.take(name)
        if node is None:
            return {}
        if not isinstance(node, Block):
            self.problem(node.place, f"{self.path(name)} is {_kind(node)}, and must be a mapping")
            return {}
        return {
            key: read(key, self.within_of(entry.value, f"{self.path(name)}.{key}"))
            for entry in node.entries
            if (key := entry.key.text) is not None
        }

    def place_of(self, name: str) -> Place:
        """Where the value of a field that was taken stands."""
        return self._places.get(name, self.node.place)

    def within_of(self, node: Node, within: str) -> Fields:
        """The fields of a mapping below this one."""
        return Fields(node, within, self.reading)

    def as_text(self, node: Node, path: str) -> str:
        """The raw text of a node that must be a scalar."""
        if isinstance(node, Scalar):
            return node.text
        self.problem(node.place, f"{path} is {_kind(node)}, and must be text")
        return ""

    def located(self) -> dict[str, Any]:
        """The arguments of `Located`; the last thing that is asked, because it notes the keys that nobody took."""
        for key, entries in self._entries.items():
            if key not in self._accepted:
                self.reading.unknown.append(
                    UnknownKey(
                        name=key,
                        within=self.within,
                        place=entries[0].key.place,
                        accepted=tuple(self._accepted),
                    )
                )
        return {"node": self.node, "places": self._places}

    def _text_items(self, node: Node, name: str) -> tuple[str, ...]:
        if not isinstance(node, Items):
            self.problem(node.place, f"{self.path(name)} is {_kind(node)}, and must be a list")
            return ()
        for i, item in enumerate(node.items):
            self._places[f"{name}[{i}]"] = item.place
        return tuple(self.as_text(item, f"{self.path(name)}[{i}]") for i, item in enumerate(node.items))


def _kind(node: Node) -> str:
    """What a node is, in words."""
    if isinstance(node, Items):
        return "a list"
    if isinstance(node, Block):
        return "a mapping"
    if is_null(node):
        return "null"
    return f"{node.text!r}" if len(node.text) <= 60 else f"{node.text[:60]!r}..."
