"""pv status."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import click

from pv.corpus import project_root
from pv.errors import EXIT_NO, EXIT_OK
from pv.status.compute import Report, compute


@click.command("status")
@click.argument("path", type=click.Path(path_type=Path), default=Path("contracts"))
@click.option(
    "--evidence", type=click.Path(path_type=Path), help="Where runs are recorded; else ROOT/evidence."
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json", "md", "html"]),
    default="table",
    show_default=True,
    help="html is one page without scripts, to hang on a wall.",
)
def status_command(path: Path, evidence: Path | None, output_format: str) -> int:
    """Compute from recorded runs what is borne out, and say why it is not more.

    PROPOSED: a valid claim. PARTIAL_ALGORITHM_LEVEL: the falsifiers of parts have survived. FUNCTIONAL: all that need
    nothing live. DISCHARGED: the live ones too. Exit code 1 when a contract declares more, when it is invalid or
    refuted, when evidence was edited or deleted; 2 when there was nothing to judge.

    \b
    Example:
      pv status contracts
      pv status --format html > status.html
    """
    report = compute(path, evidence, date.today())
    code = EXIT_NO if report.problems else EXIT_OK
    print(_shown(report, output_format, path, code))
    return code


def _shown(report: Report, output_format: str, path: Path, code: int) -> str:
    if output_format == "json":
        from pv.report.status_json import status_json

        return status_json(report, code)
    if output_format == "html":
        from pv.report.status_html import status_html

        return status_html(report, project_root(path).absolute().name)
    from pv.report.status_text import status_markdown, status_table

    return status_table(report) if output_format == "table" else status_markdown(report)
