"""Which contract depends on which; what is missing, and what goes in a circle."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pv.contract.contract import Contract


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Contracts and what they depend on, by stem."""

    edges: Mapping[str, tuple[str, ...]]

    @property
    def missing(self) -> tuple[tuple[str, str], ...]:
        """A contract and a stem that it depends on and that is not there."""
        return tuple((stem, to) for stem, tos in self.edges.items() for to in tos if to not in self.edges)

    @property
    def cycles(self) -> tuple[tuple[str, ...], ...]:
        """Circles, each once, from its first stem in the alphabet."""
        return tuple(sorted({_turned(cycle) for cycle in self._circles()}))

    def _circles(self) -> Iterator[tuple[str, ...]]:
        """Of each contract the shortest way back to itself; all ways would be too many to walk."""
        for start in self.edges:
            before: dict[str, str] = {}
            waiting = deque([start])
            while waiting and start not in before:
                stem = waiting.popleft()
                for to in self.edges.get(stem, ()):
                    if to not in before:
                        before[to] = stem
                        waiting.append(to)
            if start in before:
                yield _way_back(start, before)


def _way_back(start: str, before: Mapping[str, str]) -> tuple[str, ...]:
    way = [before[start]]
    while way[-1] != start:
        way.append(before[way[-1]])
    return tuple(reversed(way))


def _turned(cycle: tuple[str, ...]) -> tuple[str, ...]:
    start = cycle.index(min(cycle))
    return cycle[start:] + cycle[:start]


def graph_of(contracts: Iterable[Contract]) -> Graph:
    """The graph of some contracts."""
    return Graph(edges={contract.stem: contract.metadata.depends_on for contract in contracts})


def mermaid(graph: Graph) -> str:
    """The graph as Mermaid, which forges draw in Markdown."""
    names = {stem: f"c{i}" for i, stem in enumerate(_stems(graph))}
    lines = [f'  {name}["{stem}"]' for stem, name in names.items()]
    lines += [f"  {names[stem]} --> {names[to]}" for stem, tos in graph.edges.items() for to in tos]
    return "\n".join(["graph TD", *lines])


def dot(graph: Graph) -> str:
    """The graph for Graphviz."""
    lines = [f'  "{stem}";' for stem in _stems(graph)]
    lines += [f'  "{stem}" -> "{to}";' for stem, tos in graph.edges.items() for to in tos]
    return "\n".join(["digraph contracts {", *lines, "}"])


def tree(graph: Graph) -> str:
    """The graph for a terminal: each contract with what it depends on."""
    lines = []
    for stem, tos in graph.edges.items():
        lines.append(stem)
        lines += [f"  -> {to}{'' if to in graph.edges else '  (missing)'}" for to in tos]
    return "\n".join(lines)


def _stems(graph: Graph) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*graph.edges, *(to for tos in graph.edges.values() for to in tos)]))
