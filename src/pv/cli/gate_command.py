"""pv gate."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import click

from pv.change.gate import gate
from pv.cli.options import format_option
from pv.errors import EXIT_NO, EXIT_OK
from pv.report.changes import gate_json, gate_text


@click.command("gate")
@click.argument("path", type=click.Path(path_type=Path), default=Path("contracts"))
@click.option("--base", required=True, metavar="REF", help="A commit, branch or tag to compare with.")
@click.option("--live", is_flag=True, help="Live claims that the change touches must be fresh too.")
@click.option(
    "--evidence", type=click.Path(path_type=Path), help="Where runs are recorded; else ROOT/evidence."
)
@format_option("text", "json")
def gate_command(path: Path, base: str, live: bool, evidence: Path | None, output_format: str) -> int:
    """Close before a change that makes a claim weaker without a waiver, or touches one and has not run it.

    A waiver stands in waivers.yaml beside the contracts, with contract, claim, change (as it is printed here), reason
    and owner. Exit code 0: open; 1: closed; 2: there is nothing to compare with.

    \b
    Example:
      pv gate --base origin/main
    """
    held = gate(path, base, live=live, store=evidence, today=date.today())
    code = EXIT_NO if held.blocked else EXIT_OK
    print(gate_json(held, code) if output_format == "json" else gate_text(held))
    return code
