"""Run claims, several at a time, and record each run as it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeAlias

from pv.contract.contract import Contract
from pv.contract.falsifier import FalsificationTest
from pv.contract.proof import Proof
from pv.contract.runner import CommandRunner, MeasureRunner
from pv.errors import Interrupted
from pv.evidence.statement import statement_of
from pv.evidence.store import record
from pv.evidence.subjects import differences, subjects_of
from pv.run.falsify import Order, falsify
from pv.run.verdict import Result, Verdict

Job: TypeAlias = tuple[Contract, FalsificationTest | Proof]


class Watcher(Protocol):
    """Is told how the runs go on."""

    def note(self, claim_id: str, doing: str) -> None:
        """A claim has come to a step."""

    def done(self, result: Result) -> None:
        """A claim has its verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """What is run, how, and where it is recorded."""

    jobs: Sequence[Job]
    order: Order
    store: Path | None  # None: nothing is recorded
    workers: int = 1


def carry_out(campaign: Campaign, watcher: Watcher) -> tuple[Result, ...]:
    """The verdicts on all claims, in the order of the jobs.

    Args:
        campaign: what, how, where to.
        watcher: is told while they are run.

    Raises:
        Interrupted: somebody stopped it; what had ended is recorded.
    """
    found: dict[int, Result] = {}
    try:
        for wave in _waves(campaign):
            for index, result in _run(wave, campaign, watcher.note):
                found[index] = result
                watcher.done(result)
    except KeyboardInterrupt:
        campaign.order.stop.set()
        raise Interrupted() from None
    return tuple(found[i] for i in sorted(found))


def _waves(campaign: Campaign) -> Iterator[list[tuple[int, Job]]]:
    """First what may run side by side; then what measures, one by one, because a neighbour would be measured too."""
    numbered = list(enumerate(campaign.jobs))
    alone = [job for job in numbered if _measures(job[1][1])]
    yield [job for job in numbered if job not in alone]
    yield from ([job] for job in alone)


def _measures(part: FalsificationTest | Proof) -> bool:
    runner = part.runner
    return isinstance(runner, MeasureRunner) or (
        isinstance(runner, CommandRunner) and runner.figure is not None
    )


def _run(
    wave: list[tuple[int, Job]], campaign: Campaign, note: Callable[[str, str], None]
) -> Iterator[tuple[int, Result]]:
    with ThreadPoolExecutor(max_workers=max(1, campaign.workers)) as pool:
        waiting: dict[Future[Result], int] = {
            pool.submit(_recorded, job, campaign, note): index for index, job in wave
        }
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        except BaseException:
            campaign.order.stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _recorded(job: Job, campaign: Campaign, note: Callable[[str, str], None]) -> Result:
    """Run one claim between two looks at its subjects, and write it down."""
    contract, part = job
    project = campaign.order.project
    before = subjects_of(contract, part, project.root)
    result = falsify(contract, part, campaign.order, lambda doing: note(part.id, doing))
    if result.answer is None or campaign.order.stop.is_set():
        return result
    changed = differences(before, subjects_of(contract, part, project.root))
    if changed:
        result = replace(result, verdict=Verdict.NO_ANSWER, why=f"{changed[0]} while it ran")
    if campaign.store is not None and result.verdict is not Verdict.NOT_RUN:
        record(campaign.store, statement_of(result, before, project))
    return result
