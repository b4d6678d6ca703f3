"""Findings as SARIF 2.1.0 (OASIS, 2020): what editors and code hosts read."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pv import __version__
from pv.finding import Finding
from pv.rules.rule import Rule
from pv.rules.table import all_rules
from pv.tree.nodes import Place

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif_report(findings: tuple[Finding, ...], base: Path, *, has_baseline: bool) -> str:
    """One SARIF log with one run.

    Args:
        findings: of all files.
        base: the folder that paths are relative to.
        has_baseline: whether the findings were compared with a baseline.
    """
    rules = [rule for rule in all_rules() if any(finding.rule == rule.id for finding in findings)]
    indices = {rule.id: i for i, rule in enumerate(rules)}
    driver = {
        "name": "pv",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": [_descriptor(rule) for rule in rules],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {"ROOT": {"uri": base.absolute().as_uri().rstrip("/") + "/"}},
        "results": [_result(finding, indices[finding.rule], base, has_baseline) for finding in findings],
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, allow_nan=False)


def _descriptor(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": "".join(word.capitalize() for word in rule.name.split("-")),
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": " ".join(rule.page.split())},
        "help": {"text": f"pv explain {rule.id}"},
        "defaultConfiguration": {"level": rule.severity.value},
    }


def _result(finding: Finding, index: int, base: Path, has_baseline: bool) -> dict[str, Any]:
    uri = quote(os.fsencode(os.path.relpath(finding.path, base).replace(os.sep, "/")))
    location = {
        "artifactLocation": {"uri": uri, "uriBaseId": "ROOT"},
        "region": _region(finding.place, finding.text),
    }
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": finding.severity.value,
        "message": {"text": f"{finding.message}; {finding.fix}"},
        "locations": [{"physicalLocation": location}],
        "partialFingerprints": {"pvFinding/v1": _fingerprint(finding, uri)},
    }
    if has_baseline:
        result["baselineState"] = "unchanged" if finding.known else "new"
    if finding.allowed is not None:
        result["suppressions"] = [{"kind": "inSource", "justification": finding.allowed}]
    return result


def _region(place: Place, text: str) -> dict[str, Any]:
    region: dict[str, Any] = {
        "startLine": place.line,
        "startColumn": place.column,
        "endLine": place.end_line,
        "endColumn": place.end_column,
    }
    return {**region, "snippet": {"text": text}} if text else region


def _fingerprint(finding: Finding, uri: str) -> str:
    """The same for the same defect wherever its line has moved to."""
    parts = "\0".join((finding.rule, uri, finding.message, finding.text))
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()[:32]
