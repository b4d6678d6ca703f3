"""Every key of a contract deleted, misspelled and changed in turn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from pv.contract.contract import read_contract
from pv.corpus import Corpus
from pv.judge import judge
from pv.profile import Profile
from pv.rules.rule import Around
from pv.tree.load import load_tree
from pv.tree.scalars import plain_value

TODAY = date(2026, 11, 24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A contract with one key changed."""

    how: str  # "delete", "misspell", "change", "empty"
    key: str  # its way from the top, list indices as []
    value: Any


def mutants(text: str) -> Iterator[Mutant]:
    """All mutants of a contract, each as Python's own values."""
    whole = plain_value(load_tree(text, "x.yaml"))
    for way in _ways(whole, ()):
        for how, make in (
            ("delete", _delete),
            ("misspell", _misspell),
            ("empty", _empty),
            ("change", _change),
        ):
            mutated = deepcopy(whole)
            parent = _at(mutated, way[:-1])
            if make(parent, way[-1]) and mutated != whole:
                yield Mutant(how=how, key=_shown(way), value=mutated)


def findings_of(value: Any, path: Path, root: Path) -> set[str]:
    """Rules that find something in a contract given as values: JSON is YAML."""
    text = json.dumps(value)
    contract = read_contract(load_tree(text, str(path)), text, str(path), Profile.STRICT)
    corpus = Corpus.of([contract], root) if hasattr(contract, "metadata") else Corpus.of([], root)
    findings = judge(contract, Around(corpus=corpus, today=TODAY), Profile.STRICT, project=True)
    return {finding.rule for finding in findings}


def _ways(value: Any, way: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """The way to every key of every mapping, and to every item of a list of texts."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield (*way, key)
            yield from _ways(child, (*way, key))
    if isinstance(value, list):
        for i, child in enumerate(value):
            if not isinstance(child, dict | list):
                yield (*way, i)
            yield from _ways(child, (*way, i))


def _at(value: Any, way: tuple[Any, ...]) -> Any:
    for step in way:
        value = value[step]
    return value


def _shown(way: tuple[Any, ...]) -> str:
    parts: list[str] = []
    for step in way:
        if isinstance(step, int):
            parts[-1] += "[]"
        else:
            parts.append(str(step))
    return ".".join(["equations.NAME", *parts[2:]] if parts[0] == "equations" and len(parts) > 1 else parts)


def _delete(parent: Any, key: Any) -> bool:
    del parent[key]
    return True


def _misspell(parent: Any, key: Any) -> bool:
    if isinstance(parent, dict):
        parent[key + "x"] = parent.pop(key)
    return isinstance(parent, dict)


def _empty(parent: Any, key: Any) -> bool:
    parent[key] = {str: "", list: [], dict: {}}.get(type(parent[key]), parent[key])
    return True


def _change(parent: Any, key: Any) -> bool:
    value = parent[key]
    if isinstance(value, bool):
        parent[key] = not value
    elif isinstance(value, int | float):
        parent[key] = value + 1
    elif isinstance(value, str):
        parent[key] = value + "x"
    return not isinstance(value, dict | list)
