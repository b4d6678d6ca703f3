"""pv lint."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path

import click

from pv.baseline import compared, read_baseline, write_baseline
from pv.cli.options import profile_option
from pv.corpus import project_root
from pv.errors import EXIT_NO, EXIT_OK
from pv.finding import Finding, Severity
from pv.profile import Profile
from pv.review import review


@click.command("lint")
@click.argument("path", type=click.Path(path_type=Path), default=Path("contracts"))
@profile_option
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "json", "sarif", "github"]),
    default="text",
    show_default=True,
    help="sarif is version 2.1.0; github prints annotations.",
)
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    help="Findings of this file are known, and do not count; what it has in vain is a finding.",
)
@click.option(
    "--write-baseline",
    "written",
    type=click.Path(path_type=Path),
    help="Write what is found as known into this file, and exit with 0.",
)
def lint_command(
    path: Path, profile: str, output_format: str, baseline: Path | None, written: Path | None
) -> int:
    """Judge all contracts of a folder together, and what they name in the project.

    A comment `# pv: allow RULE because REASON` allows findings in its line, or in the next one when it stands alone.
    Exit code 0: no errors; 1: errors; 2: there was nothing to judge.

    \b
    Example:
      pv lint contracts --format sarif
    """
    judged = review(path, Profile.of(profile), date.today(), project=True)
    findings = tuple(finding for one in judged for finding in one.findings)
    if written is not None:
        print(f"{write_baseline(findings, path, written)} finding(s) in {written}", file=sys.stderr)
        return EXIT_OK
    if baseline is not None:
        findings = compared(findings, read_baseline(baseline), path, baseline)
    report = _report(findings, len(judged), profile, output_format, project_root(path), baseline is not None)
    if report:
        print(report)
    failed = any(finding.counts and finding.severity is Severity.ERROR for finding in findings)
    return EXIT_NO if failed else EXIT_OK


def _report(
    findings: tuple[Finding, ...],
    files: int,
    profile: str,
    output_format: str,
    base: Path,
    has_baseline: bool,
) -> str:
    """The findings in one of the formats; each is imported when it is asked for."""
    if output_format == "text":
        from pv.report.text import text_report

        return text_report(findings, files)
    if output_format == "sarif":
        from pv.report.sarif import sarif_report

        return sarif_report(findings, base, has_baseline=has_baseline)
    from pv.report.machine import github_report, json_report

    return json_report(findings, files, profile) if output_format == "json" else github_report(findings)
