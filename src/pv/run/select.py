"""Which claims of some contracts are run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeAlias

from pv.contract.contract import Contract
from pv.contract.falsifier import FalsificationTest
from pv.contract.proof import Proof
from pv.nearest import did_you_mean
from pv.run.errors import NothingSelected, NothingToRun

Job: TypeAlias = tuple[Contract, FalsificationTest | Proof]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is run, and how many live claims are left out because nobody asked for them."""

    jobs: tuple[Job, ...]
    live_left_out: int


def select(
    contracts: Iterable[Contract],
    parts: Callable[[Contract], Sequence[FalsificationTest | Proof]],
    only: Sequence[str],
    *,
    live: bool,
    path: str,
) -> Selection:
    """The claims that are run.

    Args:
        contracts: whose.
        parts: gives the tests of a contract, or its proofs.
        only: ids, or patterns of ids; empty for all.
        live: whether to run those too that are marked so.
        path: that was named, for the errors.

    Raises:
        NothingToRun, NothingSelected: zero claims are no pass.
    """
    there = [(contract, part) for contract in contracts for part in parts(contract)]
    if not there:
        raise NothingToRun(path=path, what="claim of that kind")
    named = [job for job in there if not only or _is_named(job[1].id, only)]
    for pattern in only:
        if not any(fnmatchcase(part.id, pattern) for _, part in there):
            raise _missed(pattern, [part.id for _, part in there], path)
    kept = tuple(job for job in named if live or not _is_live(job[1]))
    left_out = len(named) - len(kept)
    if not kept:
        raise NothingSelected(
            path=path,
            there=f"{len(there)} claim(s)",
            filter="leaving out the live ones",
        )
    return Selection(jobs=kept, live_left_out=left_out)


def _is_named(claim_id: str, only: Sequence[str]) -> bool:
    return any(fnmatchcase(claim_id, pattern) for pattern in only)


def _is_live(part: FalsificationTest | Proof) -> bool:
    return isinstance(part, FalsificationTest) and part.live


def _missed(pattern: str, ids: list[str], path: str) -> NothingSelected:
    nearest = did_you_mean(pattern, ids)
    return NothingSelected(
        path=path, there=f"{len(ids)} claim(s)", filter=f"--only {pattern}", nearest=nearest
    )
