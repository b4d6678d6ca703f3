"""Findings for a terminal: the place, the rule, the text, what to do; a line for each file would say less."""

from __future__ import annotations

from pv.errors import shown
from pv.finding import Finding, Severity


def text_report(findings: tuple[Finding, ...], files: int) -> str:
    """All findings, and how many there are.

    Args:
        findings: of all files, in order.
        files: how many files were judged.
    """
    parts = [_block(finding) for finding in findings if finding.counts]
    return "\n".join([*parts, _total(findings, files)])


def one_line(finding: Finding) -> str:
    """A finding as `pv validate` prints it, after its tag.

    Args:
        finding: what was found.
    """
    place = f"line {finding.place.line}, column {finding.place.column}"
    return f"{finding.rule}: {place}: {shown(finding.message)}; {shown(finding.fix)}"


def _block(finding: Finding) -> str:
    head = f"{shown(finding.path)}:{finding.place}: {finding.severity.value} {finding.rule}: {shown(finding.message)}"
    lines = [head, f"    | {shown(finding.text)}"] if finding.text else [head]
    return "\n".join([*lines, f"    = {shown(finding.fix)}"])


def _total(findings: tuple[Finding, ...], files: int) -> str:
    counting = [finding for finding in findings if finding.counts]
    errors = sum(finding.severity is Severity.ERROR for finding in counting)
    told = f"{files} file(s), {errors} error(s), {len(counting) - errors} warning(s)"
    if allowed := sum(finding.allowed is not None for finding in findings):
        told += f", {allowed} allowed"
    if known := sum(finding.known for finding in findings):
        told += f", {known} known"
    return told
