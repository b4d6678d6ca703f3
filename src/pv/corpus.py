"""The contracts that are judged together, and what a reference among them can name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pv.contract.contract import Contract
from pv.contract.falsifier import FalsificationTest
from pv.contract.obligation import Obligation
from pv.contract.proof import Proof
from pv.tree.nodes import Place

_WHAT: dict[type, str] = {
    Obligation: "obligation",
    FalsificationTest: "falsification test",
    Proof: "bounded proof",
}
_ROOT_MARKS = (".git", "pyproject.toml", "setup.py", "Cargo.toml", "package.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """An id, and where it was given."""

    id: str
    what: str  # "obligation", "falsification test", "bounded proof"
    path: str
    place: Place = field(repr=False)

    @property
    def line(self) -> int:
        """The line of the id."""
        return self.place.line


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Contracts by stem. Of two files with one stem the first counts, and a rule names the other."""

    contracts: Mapping[str, Contract] = field(repr=False)
    doubles: tuple[Contract, ...] = ()  # contracts whose stem another file has already
    unreadable: frozenset[str] = frozenset()  # stems of files that are there and cannot be read
    root: Path = Path()  # of the project: globs and node ids are relative to it

    @classmethod
    def of(cls, contracts: list[Contract], root: Path, unreadable: frozenset[str] = frozenset()) -> Corpus:
        """A corpus from its contracts."""
        by_stem: dict[str, Contract] = {}
        doubles = [c for c in contracts if by_stem.setdefault(c.stem, c) is not c]
        return cls(contracts=by_stem, doubles=tuple(doubles), unreadable=unreadable, root=root)

    @cached_property
    def claims(self) -> Mapping[str, tuple[Claim, ...]]:
        """Every id of the corpus, in lower case, with the places that give it."""
        found: dict[str, list[Claim]] = {}
        for contract in (*self.contracts.values(), *self.doubles):
            for claim in claims_of(contract):
                found.setdefault(claim.id.lower(), []).append(claim)
        return {name: tuple(claims) for name, claims in found.items()}

    def reach(self, contract: Contract) -> tuple[Contract, ...]:
        """The contract and all that it depends on, directly or through others."""
        reached = {contract.stem: contract}
        waiting = [contract]
        while waiting:
            for stem in waiting.pop().metadata.depends_on:
                if stem in self.contracts and stem not in reached:
                    reached[stem] = self.contracts[stem]
                    waiting.append(self.contracts[stem])
        return tuple(reached.values())


def claims_of(contract: Contract) -> Iterator[Claim]:
    """The ids that a contract gives, in order."""
    for part in contract.named:
        if part.id:
            yield Claim(id=part.id, what=_WHAT[type(part)], path=contract.path, place=part.where("id"))


def project_root(path: Path) -> Path:
    """The nearest folder above a path that looks like the root of a project; without one the folder of `contracts`."""
    start = path.absolute() if path.is_dir() else path.absolute().parent
    for folder in (start, *start.parents):
        if any((folder / mark).exists() for mark in _ROOT_MARKS):
            return folder
    return start.parent if start.name == "contracts" else start
