"""pv bundle and pv replay."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from datetime import date
from pathlib import Path

import click

from pv.cli.options import format_option
from pv.cli.run_options import end_with_runners
from pv.corpus import project_root
from pv.errors import EXIT_NO, EXIT_NO_ANSWER, EXIT_OK
from pv.report.progress import Progress
from pv.run.falsify import Order
from pv.run.needs import Means
from pv.run.project import Project
from pv.status.compute import compute
from pv.survey.bundle import read_bundle, write_bundle
from pv.survey.replay import Comparison, Replayed, jobs_of, replay


@click.command("bundle")
@click.argument("path", type=click.Path(path_type=Path), default=Path("contracts"))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The archive, a .tar.gz."
)
@click.option(
    "--evidence", type=click.Path(path_type=Path), help="Where runs are recorded; else ROOT/evidence."
)
def bundle_command(path: Path, output: Path, evidence: Path | None) -> int:
    """Write contracts, their evidence and all digests into one archive, for `pv replay` elsewhere.

    The same contracts and evidence give the same bytes. Exit code 1 when `pv status` would say no; the archive is
    written all the same, and says so.

    \b
    Example:
      pv bundle contracts -o release.pv.tar.gz
    """
    report = compute(path, evidence, date.today())
    count = write_bundle(report, path, evidence or report.root / "evidence", output)
    print(output)
    print(f"{count} file(s) of {len(report.contracts)} contract(s)", file=sys.stderr)
    for problem in report.problems:
        print(f"problem: {problem}", file=sys.stderr)
    return EXIT_NO if report.problems else EXIT_OK


@click.command("replay")
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--project", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Else where you are."
)
@click.option("--live", is_flag=True, help="Run those too that are marked live.")
@click.option(
    "-j", "--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="How many at a time."
)
@click.option(
    "--python", "interpreter", metavar="PATH", help="The project's interpreter; else the one of pv."
)
@click.option(
    "--have", multiple=True, metavar="NEED", help="Something that is here: network, gpu, model:NAME."
)
@format_option("table", "json")
def replay_command(
    bundle: Path,
    project: Path | None,
    live: bool,
    jobs: int,
    interpreter: str | None,
    have: tuple[str, ...],
    output_format: str,
) -> int:
    """Run the claims of a bundle again, against the project here, and compare.

    What is run stands in the bundle, so replay only one that you trust. Nothing is recorded. Exit code 0: every claim
    that is run has the verdict that it had; 1: one has another; 2: one has no answer here or had none there, or nothing
    was run.

    \b
    Example:
      pv replay release.pv.tar.gz --project .
    """
    held = read_bundle(bundle)
    root = project_root(project or Path.cwd()).absolute()
    order = Order(
        project=Project(root=root, python=interpreter or sys.executable),
        means=Means(have=frozenset(have)),
        today=date.today(),
    )
    end_with_runners()
    with Progress(jobs_of(held, live=live)) as progress:
        rows = replay(held, order, progress, live=live, workers=jobs)
    if output_format == "json":
        print(json.dumps({"claims": [asdict(row) for row in rows]}, indent=1))
    else:
        print(_table(rows))
    if any(row.comparison is Comparison.DIFFERENT for row in rows):
        return EXIT_NO
    is_known = rows and all(row.comparison is Comparison.SAME for row in rows)
    return EXIT_OK if is_known else EXIT_NO_ANSWER


def _table(rows: tuple[Replayed, ...]) -> str:
    lines = []
    for row in rows:
        head = f"{row.comparison.value:<10} {row.contract}/{row.id}"
        lines.append(f"{head}  there {row.there}, here {row.here}: {row.why}")
        lines += [f"           other bytes here: {name}" for name in row.differing[:5]]
    counts = Counter(row.comparison for row in rows)
    told = ", ".join(f"{counts[c]} {c.value}" for c in Comparison if counts[c]) or "nothing was run"
    return "\n".join([*lines, f"{len(rows)} claim(s): {told}"])
