"""Options of the commands that run claims, and what both do with them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import click

from pv.cli.options import format_option
from pv.contract.contract import Contract
from pv.contract.falsifier import FalsificationTest
from pv.contract.proof import Proof
from pv.errors import EXIT_NO_ANSWER, EXIT_OK
from pv.evidence.recording import Campaign, carry_out
from pv.report.progress import Progress
from pv.report.verdicts import failures, verdict_json, verdict_table
from pv.run.falsify import Order
from pv.run.needs import DEFAULT_MINUTES, Means
from pv.run.project import Project
from pv.run.reading import read_contracts
from pv.run.select import Job, select
from pv.run.verdict import exit_code
from pv.status.claim import claim_of

_OPTIONS: list[Callable[[Any], Any]] = [
    click.option("--only", multiple=True, metavar="ID", help="Only this claim; * and ? stand for characters."),
    click.option("--stale", is_flag=True, help="Only claims that have not survived since what they watch was touched."),
    click.option("--no-controls", is_flag=True, help="Do not plant the defects; such a run counts for no status."),
    click.option("-j", "--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="How many at a time."),
    click.option("--have", multiple=True, metavar="NEED", help="Something that is here: network, gpu, model:NAME."),
    click.option("--minutes", type=click.FloatRange(0), help="The longest that a claim may say it needs."),
    click.option("--python", "interpreter", metavar="PATH", help="The project's interpreter; else the one of pv."),
    click.option("--evidence", type=click.Path(path_type=Path), help="Where runs are recorded; else ROOT/evidence."),
    click.option("--no-record", is_flag=True, help="Record nothing."),
    format_option("table", "json"),
]  # fmt: skip


def run_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options of running."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked on the command line."""

    only: Sequence[str]
    stale: bool
    no_controls: bool
    jobs: int
    have: Sequence[str]
    minutes: float | None
    interpreter: str | None
    evidence: Path | None
    no_record: bool
    output_format: str
    live: bool = False


def run_claims(
    path: Path, parts: Callable[[Contract], Sequence[FalsificationTest | Proof]], asked: Asked
) -> int:
    """Run the claims of a path and print their verdicts; returns the exit code.

    Args:
        path: a contract or a folder of them.
        parts: which claims of a contract.
        asked: on the command line.
    """
    read = read_contracts(path)
    selection = select(read.contracts, parts, asked.only, live=asked.live, path=str(path))
    project = Project(root=read.root.absolute(), python=asked.interpreter or sys.executable)
    _ = project.about  # an interpreter that does not run is no answer, and is so before anything is run
    order = Order(
        project=project, means=_means(asked), today=date.today(), with_controls=not asked.no_controls
    )
    place = asked.evidence or project.root / "evidence"
    jobs = unsettled(selection.jobs, project.root, place) if asked.stale else selection.jobs
    if not jobs:
        return _settled(len(selection.jobs), selection.live_left_out, read.unread, asked)
    store = None if asked.no_record else place
    campaign = Campaign(jobs=jobs, order=order, store=store, workers=asked.jobs)
    end_with_runners()
    with Progress(len(jobs)) as progress:
        results = carry_out(campaign, progress)
    code = exit_code(results)
    if read.unread and code == EXIT_OK:
        code = EXIT_NO_ANSWER
    if asked.output_format == "json":
        print(verdict_json(results, selection.live_left_out, read.unread, code))
        return code
    print(failures(results), end="", file=sys.stderr)
    print(verdict_table(results, selection.live_left_out, read.unread))
    return code


def end_with_runners() -> None:
    """Take a signal that ends pv, also that of a terminal that is closed, as Ctrl-C, so that no runner outlives it."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
            signal.signal(number, signal.default_int_handler)


def unsettled(jobs: Sequence[Job], root: Path, store: Path) -> tuple[Job, ...]:
    """The claims among some that have no run that counts, or none that they survived.

    Args:
        jobs: to choose from.
        root: of the project.
        store: where evidence lies.
    """
    return tuple(job for job in jobs if not claim_of(*job, root, store).survived)


def _settled(count: int, live_left_out: int, unread: Sequence[tuple[str, str]], asked: Asked) -> int:
    """Say that nothing is left to run, because all have survived; an unread file is still no answer."""
    code = EXIT_NO_ANSWER if unread else EXIT_OK
    if asked.output_format == "json":
        print(verdict_json([], live_left_out, unread, code))
    else:
        print(f"all {count} claim(s) have survived since what they watch was last touched")
        print("".join(f"{path} was not read: {reason}\n" for path, reason in unread), end="")
    return code


def _means(asked: Asked) -> Means:
    said = [*asked.have, *os.environ.get("PV_HAVE", "").split()]
    default = float("inf") if asked.live else DEFAULT_MINUTES
    return Means(have=frozenset(said), minutes=default if asked.minutes is None else asked.minutes)
