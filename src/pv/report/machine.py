"""Findings for machines: one JSON object, or lines that GitHub turns into annotations."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pv.finding import Finding, Severity


def json_report(findings: tuple[Finding, ...], files: int, profile: str) -> str:
    """One JSON object with every finding, allowed and known ones too.

    Args:
        findings: of all files.
        files: how many files were judged.
        profile: whose rules were put.
    """
    counting = [finding for finding in findings if finding.counts]
    errors = sum(finding.severity is Severity.ERROR for finding in counting)
    document = {
        "passed": errors == 0,
        "profile": profile,
        "files": files,
        "errors": errors,
        "warnings": len(counting) - errors,
        "findings": [finding.as_dict() for finding in findings],
    }
    return json.dumps(document, allow_nan=False)


def github_report(findings: tuple[Finding, ...]) -> str:
    """A workflow command for each finding that counts.

    Args:
        findings: of all files.
    """
    return "\n".join(_command(finding) for finding in findings if finding.counts)


def _command(finding: Finding) -> str:
    place = finding.place
    properties = {
        "file": finding.path,
        "line": place.line,
        "endLine": place.end_line,
        "col": place.column,
        "endColumn": place.end_column,
        "title": finding.rule,
    }
    if place.end_line != place.line:  # GitHub takes columns of one line only
        del properties["col"], properties["endColumn"]
    told = _escaped(f"{finding.message}; {finding.fix}", _DATA)
    said = ",".join(f"{name}={_escaped(str(value), _PROPERTY)}" for name, value in properties.items())
    return f"::{finding.severity.value} {said}::{told}"


_DATA = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_PROPERTY = {**_DATA, ":": "%3A", ",": "%2C"}


def _escaped(text: str, table: Mapping[str, str]) -> str:
    return "".join(table.get(letter, letter) for letter in text)
