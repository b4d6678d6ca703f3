"""Compare two parts of a contract field by field; each kind of part has a table of comparisons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from pv.change.change import Kind
from pv.change.compare_values import (
    Compare,
    Difference,
    anything,
    arrow,
    claim,
    difference,
    fewer_is_stronger,
    formula,
    larger_is_stronger,
    limit,
    more_is_stronger,
    same,
    smaller_is_stronger,
    true_is_stronger,
    words,
    words_in_any_order,
)
from pv.contract.equation import Equation
from pv.contract.falsifier import LEVELS, FalsificationTest, Pending
from pv.contract.metadata import ENFORCEMENT_LEVELS, Metadata
from pv.contract.obligation import Obligation
from pv.contract.proof import Proof, Prover
from pv.contract.runner import CommandRunner, MeasureRunner, PytestRunner, PythonRunner, Runner


def compare_parts(old: Any, new: Any) -> Iterator[Difference]:
    """The differences of two parts of one kind.

    Args:
        old: an equation, obligation, test, proof, or the metadata.
        new: of the same kind.
    """
    if old is new:
        return
    for name, compare in TABLES[type(old)].items():
        before, after = getattr(old, name), getattr(new, name)
        if before is not after:
            yield from compare(name, before, after)


def _level(name: str, old: str, new: str) -> Iterator[Difference]:
    yield from larger_is_stronger(name, LEVELS.index(old), LEVELS.index(new))


def _enforcement(name: str, old: str | None, new: str | None) -> Iterator[Difference]:
    def rank(word: str | None) -> int:
        return ENFORCEMENT_LEVELS.index(word) if word else -1

    if rank(old) != rank(new):
        kind = Kind.STRENGTHENED if rank(new) > rank(old) else Kind.WEAKENED
        yield difference(kind, arrow(name, old, new))


def _pending(name: str, old: Pending | None, new: Pending | None) -> Iterator[Difference]:
    """Being unrun is a weakness, and being so for longer is a greater one."""
    if old is None or new is None:
        if (old is None) != (new is None):
            kind = Kind.WEAKENED if old is None else Kind.STRENGTHENED
            yield difference(kind, "pending" if old is None else "not pending any more")
        return
    if old.expires != new.expires:
        is_sooner = bool(old.expires and new.expires) and str(new.expires) < str(old.expires)
        kind = Kind.STRENGTHENED if is_sooner else Kind.WEAKENED
        yield difference(kind, arrow("pending until", old.expires, new.expires))
    yield from fewer_is_stronger("pending needs", old.needs, new.needs)
    yield from words("pending owner", old.owner, new.owner)
    yield from words("pending reason", old.reason, new.reason)


def _runner(name: str, old: Runner | None, new: Runner | None) -> Iterator[Difference]:
    if old is None or new is None or type(old) is not type(new):
        if old is not new:
            yield difference(Kind.STRENGTHENED if old is None else Kind.CHANGED, arrow(name, old, new))
    elif isinstance(old, PytestRunner) and isinstance(new, PytestRunner):
        yield from more_is_stronger("tests", old.node_ids, new.node_ids)
    elif isinstance(old, PythonRunner) and isinstance(new, PythonRunner):
        yield from anything("function", old.target, new.target)
    elif isinstance(old, CommandRunner) and isinstance(new, CommandRunner):
        yield from _command(old, new)
    elif isinstance(old, MeasureRunner) and isinstance(new, MeasureRunner):
        yield from anything("command", old.argv, new.argv)
        yield from limit(old, new)
        yield from larger_is_stronger("repeats", old.repeats, new.repeats)


def _command(old: CommandRunner, new: CommandRunner) -> Iterator[Difference]:
    yield from anything("command", old.argv, new.argv)
    yield from anything("exit_code", old.exit_code, new.exit_code)
    if old.figure is None or new.figure is None:
        if not same(old.figure, new.figure):
            kind = Kind.STRENGTHENED if old.figure is None else Kind.WEAKENED
            yield difference(kind, arrow("figure", old.figure, new.figure))
        return
    yield from anything("figure", old.figure.json, new.figure.json)
    yield from limit(old.figure, new.figure)


def _prover(name: str, old: Prover | None, new: Prover | None) -> Iterator[Difference]:
    if old is None or new is None or old.kind != new.kind:  # what another prover shows is of another kind
        if not same(old, new):
            yield difference(Kind.STRENGTHENED if old is None else Kind.CHANGED, arrow(name, old, new))
        return
    yield from anything("target", old.target, new.target)
    yield from anything("domain", old.domain, new.domain)
    yield from larger_is_stronger("size", old.size, new.size)
    yield from larger_is_stronger("examples", old.examples, new.examples)
    yield from anything("seed", old.seed, new.seed)


def _every(kind: type, compare: Compare, but: dict[str, Compare]) -> dict[str, Compare]:
    """A table with one comparison for the fields that have none of their own."""
    names = [field.name for field in fields(kind) if field.compare]
    return {name: but.get(name, compare) for name in names}


_RUN: dict[str, Compare] = {
    "controls": more_is_stronger,
    "subjects": more_is_stronger,
    "timeout_s": words,
}
# A field that is not named here changes the claim, so that a new one cannot slip through.
TABLES: dict[type, dict[str, Compare]] = {
    Obligation: _every(
        Obligation,
        anything,
        {"property": claim, "formal": formula, "tolerance": smaller_is_stronger, "na_owner": words},
    ),
    Equation: _every(
        Equation,
        anything,
        {
            "formula": formula,
            "invariants": more_is_stronger,
            "preconditions": fewer_is_stronger,
            "postconditions": more_is_stronger,
            "float_tolerance": smaller_is_stronger,
        },
    ),
    FalsificationTest: _every(
        FalsificationTest,
        anything,
        _RUN
        | {
            "rule": claim,
            "prediction": claim,
            "if_fails": words,
            "name": words,
            "test": words,
            "test_harness": words,
            "obligations": more_is_stronger,
            "refutes": more_is_stronger,
            "runner": _runner,
            "needs": fewer_is_stronger,
            "level": _level,
            "live": true_is_stronger,
            "pending": _pending,
        },
    ),
    Proof: _every(
        Proof,
        anything,
        _RUN
        | {"property": claim, "bound": larger_is_stronger, "runner": _prover, "actually_verified": words},
    ),
    Metadata: _every(
        Metadata,
        words,
        {
            "references": words_in_any_order,
            "depends_on": more_is_stronger,
            "kind": anything,
            "registry": anything,
            "enforcement_level": _enforcement,
            "valid_under": anything,
            "proved_type": anything,
            "locked_level": anything,
        },
    ),
}
