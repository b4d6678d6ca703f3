"""pv infer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import click

from pv.corpus import project_root
from pv.errors import EXIT_NO, EXIT_NO_ANSWER, EXIT_OK
from pv.mined.claim import Claim
from pv.mined.errors import ClaimUnborne, NothingMined, RunOutside, SkeletonThere
from pv.mined.judge import Held, judge
from pv.mined.kinds import read_claim
from pv.mined.mine import MIN_RECORDS, Mined, mine
from pv.mined.run import Run, read_run
from pv.mined.skeleton import skeleton
from pv.report.mined import judged_json, judged_table, mined_json, mined_table


@click.command("infer")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where the skeleton goes; else stdout.")
@click.option("--force", is_flag=True, help="Replace the output when it exists.")
@click.option(
    "--check",
    multiple=True,
    metavar="CLAIM",
    help="Judge the run by this claim, and mine nothing. Repeatable.",
)
@click.option(
    "--count", metavar="CLAIM", help="Print how many records refute this claim: what a contract measures."
)
@click.option(
    "--against", type=click.Path(path_type=Path), metavar="RUN", help="Judge this run by what is mined."
)
@click.option(
    "--min-lines",
    type=click.IntRange(2),
    default=MIN_RECORDS,
    show_default=True,
    help="How many records must bear a claim; fewer are no answer.",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["yaml", "table", "json"]),
    help="yaml is a skeleton of a contract, json for machines.  [default: yaml, of a judgement table]",
)
def infer_command(
    run: Path,
    output: Path | None,
    force: bool,
    check: tuple[str, ...],
    count: str | None,
    against: Path | None,
    min_lines: int,
    output_format: str | None,
) -> int:
    """Mine claims from a healthy run, as a contract to be reviewed; or judge a run by such claims.

    RUN is a file of JSON lines, a folder with metrics.jsonl, or a folder of .json records. The skeleton is invalid
    until somebody has said what is claimed, and which defect must be noticed; `pv falsify` then runs it.

    Exit code of a judgement 0: every claim holds; 1: a record refutes one; 2: too few records bear one.

    \b
    Examples:
      pv infer run -o contracts/run-v1.yaml
      pv infer run --format table
      pv infer run --check "step increases by 1" --check "train_loss is finite"
      pv infer healthy --against suspect
    """
    asked = {"--check": check, "--count": count, "--against": against, "--output": output}
    named = [option for option, value in asked.items() if value]
    if len(named) > 1:
        raise click.UsageError(f"{named[0]} and {named[1]} are about different things")
    if output_format == "yaml" and named not in ([], ["--output"]):
        raise click.UsageError("a judgement is no contract, and has no format yaml")
    read = read_run(run)
    if count is not None:
        return _counted(read_claim(count), read, min_lines)
    if check:
        return _judged([read_claim(text) for text in check], read, min_lines, output_format)
    mined = mine(read, min_lines)
    if not mined.claims:
        raise NothingMined(path=str(read.path), records=len(read), least=min_lines)
    if against is not None:
        return _judged(mined.claims, read_run(against), min_lines, output_format)
    _show(mined, read, output, force, min_lines, output_format)
    return EXIT_OK


def _counted(claim: Claim, run: Run, least: int) -> int:
    """Print how many records refute a claim; which ones is said beside."""
    judged = judge(claim, run, least)
    if judged.held is Held.UNKNOWN:
        raise ClaimUnborne(
            claim=claim.text, support=judged.support, records=len(run), path=str(run.path), least=least
        )
    for breach in judged.breaches[:5]:
        print(breach.text, file=sys.stderr)
    print(len(judged.breaches))
    return EXIT_OK


def _judged(claims: Sequence[Claim], run: Run, least: int, output_format: str | None) -> int:
    judged = [judge(claim, run, least) for claim in claims]
    print((judged_json if output_format == "json" else judged_table)(judged, run))
    if any(one.held is Held.REFUTED for one in judged):
        return EXIT_NO
    return EXIT_OK if all(one.held is Held.HOLDS for one in judged) else EXIT_NO_ANSWER


def _show(
    mined: Mined, run: Run, output: Path | None, force: bool, least: int, output_format: str | None
) -> None:
    """Print what was mined, or write it as a contract."""
    if output_format in ("table", "json"):
        text = (mined_json if output_format == "json" else mined_table)(mined, run) + "\n"
    else:
        text = _contract(mined, run, output, least)
    if output is None:
        print(text, end="")
    else:
        _write(text, output, force)
    if output_format not in ("table", "json"):
        print(mined_table(mined, run), file=sys.stderr)


def _contract(mined: Mined, run: Run, output: Path | None, least: int) -> str:
    root = project_root(Path.cwd())
    if not run.path.resolve().is_relative_to(root.resolve()):
        raise RunOutside(path=str(run.path), root=str(root))
    folder = run.path if run.path.is_dir() else run.path.parent
    name = output.stem if output is not None else folder.resolve().name
    return skeleton(name, run, mined.claims, root, date.today(), least)


def _write(text: str, output: Path, force: bool) -> None:
    if output.exists() and not force:
        raise SkeletonThere(path=str(output))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    print(output)
