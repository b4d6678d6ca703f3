"""Milestones: which claims a release needs, and how many of them have survived.

    milestones:
      - id: release-0.2
        title: continue pretraining without losing the weights
        claims: [INIT-FAL-001, INIT-OBL-002, "tokens-v1: FUNCTIONAL"]

A claim is the id of a falsification test, a proof or an obligation (all of whose falsifiers must have survived), or
`STEM: STATUS` for a contract that must have come so far.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pv.contract.falsifier import FalsificationTest
from pv.status.level import Level
from pv.tree.nodes import Node
from pv.tree.scalars import plain_value

if TYPE_CHECKING:
    from pv.status.compute import ContractStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Milestone:
    """A release and the claims that it needs."""

    id: str
    title: str
    done: tuple[str, ...]
    open: tuple[str, ...]
    unknown: tuple[str, ...]  # needed, and in no contract

    @property
    def total(self) -> int:
        """The denominator: all that it needs, the unknown included."""
        return len(self.done) + len(self.open) + len(self.unknown)


def milestones_of(root: Node, path: str, contracts: Mapping[str, ContractStatus]) -> Iterator[Milestone]:
    """The milestones of a file, with what is known of their claims.

    Args:
        root: of the file.
        path: of the file, for one that has no id.
        contracts: by stem.
    """
    document = plain_value(root)
    listed = document.get("milestones") if isinstance(document, dict) else None
    for row in listed if isinstance(listed, list) else []:
        if isinstance(row, dict):
            yield _milestone(row, path, contracts)


def _milestone(row: dict[str, object], path: str, contracts: Mapping[str, ContractStatus]) -> Milestone:
    claims = row.get("claims")
    known = {name: _known(name, contracts) for name in _names(claims)}
    return Milestone(
        id=str(row.get("id") or path),
        title=str(row.get("title") or ""),
        done=tuple(name for name, held in known.items() if held is True),
        open=tuple(name for name, held in known.items() if held is False),
        unknown=tuple(name for name, held in known.items() if held is None),
    )


def _names(claims: object) -> Iterator[str]:
    """Each claim as one text; `stem: STATUS` is a mapping in YAML unless it stands in quotes."""
    for claim in claims if isinstance(claims, list) else []:
        if isinstance(claim, dict):
            yield from (f"{stem}: {word}" for stem, word in claim.items())
        else:
            yield str(claim)


def _known(name: str, contracts: Mapping[str, ContractStatus]) -> bool | None:
    """Whether a needed claim has survived; None when there is no such claim."""
    stem, colon, word = name.partition(":")
    level = Level.of(word.strip())
    if colon and level is not None:
        return contracts[stem].level >= level if stem in contracts else None
    for contract in contracts.values():
        found = [claim.survived for claim in contract.claims if claim.id == name]
        if found:
            return all(found)
        if contract.contract is not None and any(o.id == name for o in contract.contract.obligations):
            tests = [
                c for c in contract.claims if isinstance(c.part, FalsificationTest) and name in c.part.refutes
            ]
            return bool(tests) and all(claim.survived for claim in tests)
    return None
