"""Read one YAML document from bytes into a tree with places, and refuse what no contract needs.

PyYAML's C parser (libyaml 0.2.5) gives the events; everything that a loader would decide is decided here:
scalars stay text, an alias is the node that it names (of which there may be 50,000 after all are written out, so a
file of a few lines cannot unfold into a memory full), `<<` is a key like any other, as in YAML 1.2, and a document
has one root. Why not ruamel.yaml: docs/pv-design.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from yaml import YAMLError
from yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)

from pv.errors import PathMissing, PathUnreadable, YamlWrong
from pv.tree.nodes import Block, Entry, Items, Node, Place, Scalar

try:
    from yaml import _yaml

    _PARSER: Any = _yaml.CParser
except ImportError:  # PyYAML without libyaml: the same events, slower
    from yaml import SafeLoader

    _PARSER = SafeLoader

MAX_BYTES = 1 << 20  # the largest contract of the field has 60 kB
MAX_DEPTH = 40
MAX_NODES = 50_000

_CORE = "tag:yaml.org,2002:"
_BOM = b"\xef\xbb\xbf"


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        PathMissing, PathUnreadable.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)  # one more than is accepted, so that the loader can say so
    except FileNotFoundError:
        raise PathMissing(path=str(path)) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise PathUnreadable(path=str(path), reason=reason) from None


def load_text(data: bytes, path: str) -> str:
    """The text of a contract file, without the byte order mark.

    Raises:
        YamlWrong: it is too large, or not UTF-8.
    """
    if len(data) > MAX_BYTES:
        _refuse(path, 1, 1, f"the file is larger than {MAX_BYTES:,} bytes, the most that a contract may have")
    try:
        return data.removeprefix(_BOM).decode("utf-8")
    except UnicodeDecodeError as error:
        before = data.removeprefix(_BOM)[: error.start]
        line = before.count(b"\n") + 1
        column = len(before.rpartition(b"\n")[2].decode("utf-8")) + 1
        _refuse(path, line, column, f"the byte 0x{error.object[error.start]:02x} is not UTF-8")


def load_tree(text: str, path: str) -> Node:
    """The root of the only document in a text.

    Args:
        text: a YAML document.
        path: the name of the file, for errors.

    Raises:
        YamlWrong: it is no YAML, holds no or a second document, or goes beyond a limit.
    """
    try:
        return _Composer(text, path).document()
    except YAMLError as error:
        _refuse(path, *_described(error, text))


def _refuse(path: str, line: int, column: int, what: str) -> NoReturn:
    raise YamlWrong(path=path, line=line, column=column, what=what) from None


def _described(error: Any, text: str) -> tuple[int, int, str]:
    """Line, column and sentence of what the parser says."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is not None:
        context = f"{error.context}, " if getattr(error, "context", None) else ""
        return mark.line + 1, mark.column + 1, f"{context}{error.problem}"
    position = getattr(error, "position", None)
    if position is None:
        return 1, 1, str(error).partition("\n")[0]
    before = (
        text.encode("utf-8")[:position].decode("utf-8", "ignore") if _PARSER.__name__ == "CParser" else text
    )
    line, column = before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1
    return line, column, f"{error.reason} (code point {error.character})"


class _Composer:
    """Events of one text into nodes."""

    def __init__(self, text: str, path: str) -> None:
        self._parser = _PARSER(text)
        self._path = path
        self._anchors: dict[
            str, Node | None
        ] = {}  # None while the node that has the anchor is still being read
        self._nodes = 0

    def document(self) -> Node:
        self._parser.get_event()  # the stream begins
        event = self._parser.get_event()
        if isinstance(event, StreamEndEvent):
            _refuse(self._path, 1, 1, "the file holds no YAML document")
        root = self._node(self._parser.get_event(), 0)
        self._parser.get_event()  # the document ends
        after = self._parser.get_event()
        if isinstance(after, DocumentStartEvent):
            self._stop(after, "a second document begins here, and a contract is one")
        return root

    def _stop(self, event: Any, what: str) -> NoReturn:
        _refuse(self._path, event.start_mark.line + 1, event.start_mark.column + 1, what)

    def _node(self, event: Any, depth: int) -> Node:
        if isinstance(event, ScalarEvent):
            return self._kept(event, self._scalar(event))
        if isinstance(event, AliasEvent):
            return self._alias(event)
        return self._collection(event, depth)

    def _scalar(self, event: ScalarEvent) -> Scalar:
        plain = bool(event.implicit[0])
        tag = event.tag
        if tag is not None:
            if tag != "!" and not tag.startswith(_CORE):
                self._stop(event, f"the tag {tag} means nothing here")
            plain = tag not in ("!", _CORE + "str")
        start, end = event.start_mark, event.end_mark
        place = Place(start.line + 1, start.column + 1, end.line + 1, end.column + 1)
        self._count(event, 1)
        return Scalar(event.value, plain, place)

    def _alias(self, event: AliasEvent) -> Node:
        if event.anchor not in self._anchors:
            self._stop(event, f"no anchor &{event.anchor} stands before the alias *{event.anchor}")
        node = self._anchors[event.anchor]
        if node is None:
            self._stop(event, f"the alias *{event.anchor} stands inside what it names")
        self._count(event, node.size)
        return node

    def _collection(self, event: CollectionStartEvent, depth: int) -> Node:
        if depth >= MAX_DEPTH:
            self._stop(
                event, f"this is nested deeper than {MAX_DEPTH} levels, the most that a contract may have"
            )
        if event.tag is not None and not event.tag.startswith(_CORE):
            self._stop(event, f"the tag {event.tag} means nothing here")
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        before = self._nodes
        self._count(event, 1)
        if isinstance(event, MappingStartEvent):
            entries, last = self._entries(depth)
            return self._kept(event, Block(entries, _span(event, last), self._nodes - before))
        items, last = self._items(depth)
        return self._kept(event, Items(items, _span(event, last), self._nodes - before))

    def _entries(self, depth: int) -> tuple[tuple[Entry, ...], Any]:
        entries = []
        while not isinstance(event := self._parser.get_event(), MappingEndEvent):
            key = self._node(event, depth + 1)
            if not isinstance(key, Scalar):
                self._stop(event, "a key is a list or a mapping, and must be text")
            entries.append(Entry(key, self._node(self._parser.get_event(), depth + 1)))
        return tuple(entries), event

    def _items(self, depth: int) -> tuple[tuple[Node, ...], Any]:
        items = []
        while not isinstance(event := self._parser.get_event(), SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return tuple(items), event

    def _kept(self, event: Any, node: Node) -> Node:
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _count(self, event: Any, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            self._stop(event, f"with its aliases written out the file has more than {MAX_NODES:,} values")


def _span(first: Any, last: Any) -> Place:
    start, end = first.start_mark, last.end_mark
    return Place(start.line + 1, start.column + 1, end.line + 1, end.column + 1)
