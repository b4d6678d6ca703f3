"""Run the claims of a bundle again, here, and compare with what was known where it was made."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pv.contract.contract import Contract
from pv.contract.falsifier import FalsificationTest
from pv.evidence.recording import Campaign, Job, Watcher, carry_out
from pv.evidence.subjects import subjects_of
from pv.run.falsify import Order
from pv.run.reading import read_contracts
from pv.run.verdict import Result
from pv.status.claim import State
from pv.survey.bundle import Bundle


class Comparison(StrEnum):
    """How a verdict here compares with the one that was known there."""

    SAME = "same"
    DIFFERENT = "different"
    UNKNOWN = "not known"  # it has no answer on one of the sides


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One claim on both sides."""

    contract: str
    id: str
    there: str  # its state in the bundle
    here: str  # its verdict
    comparison: Comparison
    why: str
    differing: tuple[str, ...]  # subjects that are not the same bytes here


_ANSWERS = {State.SURVIVED, State.REFUTED, State.COULD_NOT_FAIL}


def replay(
    bundle: Bundle, order: Order, watcher: Watcher, *, live: bool, workers: int
) -> tuple[Replayed, ...]:
    """Run the claims of a bundle against a project.

    Args:
        bundle: as it was read.
        order: how they are run, and for which project.
        watcher: is told while they are run.
        live: whether to run the live ones too.
        workers: how many at a time.
    """
    with tempfile.TemporaryDirectory(prefix="pv-bundle-") as name:
        folder = Path(name)
        for path, data in bundle.files.items():
            if path.startswith("contracts/"):
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
        contracts = read_contracts(folder / "contracts").contracts
        jobs = tuple(_jobs(contracts, live))
        campaign = Campaign(jobs=jobs, order=order, store=None, workers=workers)
        results = carry_out(campaign, watcher)
        return tuple(_compared(result, bundle, order.project.root) for result in results)


def jobs_of(bundle: Bundle, *, live: bool) -> int:
    """How many claims of a bundle are run."""
    rows = [claim for contract in bundle.manifest["contracts"] for claim in contract["claims"]]
    return sum(live or not row["live"] for row in rows)


def _jobs(contracts: Sequence[Contract], live: bool) -> Iterable[Job]:
    for contract in contracts:
        for part in contract.runnable:
            if live or not (isinstance(part, FalsificationTest) and part.live):
                yield contract, part


def _compared(result: Result, bundle: Bundle, root: Path) -> Replayed:
    row = _row(bundle, result.contract.stem, result.id)
    there = str(row["state"])
    known = there in _ANSWERS and result.verdict.value in _ANSWERS
    comparison = Comparison.UNKNOWN
    if known:
        comparison = Comparison.SAME if there == result.verdict.value else Comparison.DIFFERENT
    now = {f"{s.role}:{s.name}": s.sha256 for s in subjects_of(result.contract, result.part, root)}
    then: dict[str, str] = row["subjects"]
    differing = tuple(name for name in sorted({*now, *then}) if now.get(name) != then.get(name))
    return Replayed(
        contract=result.contract.stem,
        id=result.id,
        there=there,
        here=result.verdict.value,
        comparison=comparison,
        why=result.why,
        differing=differing,
    )


def _row(bundle: Bundle, stem: str, claim_id: str) -> dict[str, Any]:
    for contract in bundle.manifest["contracts"]:
        for claim in contract["claims"]:
            if (contract["contract"], claim["id"]) == (stem, claim_id):
                return dict(claim)
    return {"state": State.NEVER_RUN.value, "subjects": {}}
