"""Compare two contracts, or all of two folders, by what they claim: formatting, comments and order mean nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pv.change.change import Change, Kind
from pv.change.compare_parts import compare_parts
from pv.change.compare_values import Difference, anything, difference
from pv.contract.contract import Contract

_BLOCKS = (
    "qa_gate", "phases", "simd_dispatch", "enforcement", "summary", "type_invariants", "coq", "beat", "stories",
    "kaizen",
)  # fmt: skip


def compare_contracts(old: Contract, new: Contract) -> tuple[Change, ...]:
    """What became of the claims of a contract.

    Args:
        old: as it was.
        new: as it is.
    """
    return tuple(_changes(old, new))


def compare_all(old: Mapping[str, Contract], new: Mapping[str, Contract]) -> tuple[Change, ...]:
    """What became of the claims of some contracts.

    Args:
        old: by stem, as they were.
        new: as they are.
    """
    changes: list[Change] = []
    for stem in sorted({*old, *new}):
        if stem in old and stem in new:
            changes += compare_contracts(old[stem], new[stem])
        else:
            kind = Kind.REMOVED if stem in old else Kind.ADDED
            changes.append(_change(stem, "contract", difference(kind, f"the contract was {kind.value}")))
    return tuple(changes)


def _changes(old: Contract, new: Contract) -> Iterator[Change]:
    for found in compare_parts(old.metadata, new.metadata):
        if not found.says.startswith("version: "):
            yield _change(new.stem, "metadata", found)
    for before, after in (
        (_by_name(old.equations, "name"), _by_name(new.equations, "name")),
        (_by_name(old.obligations, "id"), _by_name(new.obligations, "id")),
        (_by_name(old.tests, "id"), _by_name(new.tests, "id")),
        (_by_name(old.proofs, "id"), _by_name(new.proofs, "id")),
    ):
        yield from _parts(new.stem, before, after)
    for block in _BLOCKS:
        for found in anything(block, getattr(old, block), getattr(new, block)):
            yield _change(new.stem, block, found)


def _parts(stem: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for name in dict.fromkeys([*old, *new]):
        if name not in new:
            yield _change(stem, name, difference(Kind.REMOVED, f"{_what(old[name])} was removed"))
        elif name not in old:
            yield _change(stem, name, difference(Kind.ADDED, f"{_what(new[name])} was added"))
        else:
            yield from (_change(stem, name, found) for found in compare_parts(old[name], new[name]))


def _by_name(parts: tuple[Any, ...], name: str) -> dict[str, Any]:
    """Parts by id; one without an id by its number, so that it is not lost."""
    return {str(getattr(part, name) or f"number {i}"): part for i, part in enumerate(parts, 1)}


def _what(part: Any) -> str:
    return {"FalsificationTest": "test", "Obligation": "obligation", "Equation": "equation"}.get(
        type(part).__name__, "proof"
    )


def _change(stem: str, name: str, found: Difference) -> Change:
    return Change(
        contract=stem, claim=name, kind=found.kind, says=found.says, must_be_waived=found.must_be_waived
    )
