"""pv coverage."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from pv.cli.options import format_option
from pv.errors import EXIT_NO, EXIT_NO_ANSWER, EXIT_OK
from pv.run.reading import read_contracts
from pv.survey.coverage import Cover, Covered, coverage

_SAYS = {
    Cover.RUN: "a falsifier with a control",
    Cover.PROOF: "a bounded proof only",
    Cover.UNCONTROLLED: "a falsifier without a control",
    Cover.PENDING: "a falsifier that is pending",
    Cover.WORDS: "only a word",
    Cover.NOTHING: "nothing",
}


@click.command("coverage")
@click.argument("path", type=click.Path(path_type=Path), default=Path("contracts"))
@format_option("table", "json")
def coverage_command(path: Path, output_format: str) -> int:
    """Show which obligations have a falsifier that is run and can fail, and which only a word.

    Exit code 0: every obligation has one, or a bounded proof; 1: not; 2: there are none, or a file cannot be read.

    \b
    Example:
      pv coverage contracts
    """
    read = read_contracts(path)
    rows = [row for contract in read.contracts for row in coverage(contract)]
    for name, reason in read.unread:
        print(f"{name} cannot be read: {reason}", file=sys.stderr)
    needed = [row for row in rows if row.is_needed]
    open_ = [row for row in needed if row.cover < Cover.PROOF]
    print(_json(rows) if output_format == "json" else _table(rows, len(needed)))
    if open_:
        return EXIT_NO
    return EXIT_NO_ANSWER if read.unread or not needed else EXIT_OK


def _table(rows: list[Covered], needed: int) -> str:
    width = max((len(row.obligation) for row in rows), default=0)
    lines: list[str] = []
    for stem in dict.fromkeys(row.contract for row in rows):
        lines.append(stem)
        lines += [
            f"  {row.obligation:<{width}}  {_told(row)}{': ' if row.by else ''}{', '.join(row.by)}"
            for row in rows
            if row.contract == stem
        ]
    run = sum(row.cover is Cover.RUN for row in rows if row.is_needed)
    return "\n".join([*lines, "", f"{run} of {needed} obligations have a falsifier with a control"])


def _told(row: Covered) -> str:
    return _SAYS[row.cover] if row.is_needed else "does not apply, says the contract"


def _json(rows: list[Covered]) -> str:
    documents = [
        {
            "contract": row.contract,
            "obligation": row.obligation,
            "cover": row.cover.word,
            "by": list(row.by),
            "is_needed": row.is_needed,
        }
        for row in rows
    ]
    return json.dumps({"obligations": documents}, indent=1)
