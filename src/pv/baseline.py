"""Findings that are known and wait: a file that `pv lint --write-baseline` writes and `--baseline` reads.

A finding is recognised by its rule, its file and what stands there, not by its line, so that lines above may come and
go. A baseline is to shrink: what it holds and nobody finds any more is a finding itself.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from pv.errors import BaselineWrong, PathUnreadable
from pv.finding import Finding, Severity
from pv.tree.load import read_bytes
from pv.tree.nodes import Place

VERSION = 1
Key: TypeAlias = tuple[str, str, str, str]  # rule, file below the folder, message, offending text


def write_baseline(findings: tuple[Finding, ...], folder: Path, path: Path) -> int:
    """Write all findings that count as known; returns how many.

    Args:
        findings: of all files.
        folder: what was judged; files are named from there.
        path: where to.

    Raises:
        PathUnreadable: it cannot be written.
    """
    counts = Counter(_key(finding, folder) for finding in findings if finding.allowed is None)
    rows = [
        {"rule": rule, "file": file, "message": message, "text": text, "count": count}
        for (rule, file, message, text), count in sorted(counts.items())
    ]
    document = json.dumps({"pv_baseline": VERSION, "findings": rows}, indent=1) + "\n"
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(document, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise PathUnreadable(path=str(path), reason=reason, done="written") from None
    return sum(counts.values())


def read_baseline(path: Path) -> Counter[Key]:
    """How often a baseline has each finding.

    Raises:
        PathMissing, PathUnreadable, BaselineWrong.
    """
    try:
        document = json.loads(read_bytes(path))
        if document["pv_baseline"] != VERSION:
            raise BaselineWrong(path=str(path), reason=f"its version is {document['pv_baseline']}")
        return Counter({_row_key(row): int(row["count"]) for row in document["findings"]})
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise BaselineWrong(path=str(path), reason=reason) from None


def compared(
    findings: tuple[Finding, ...], baseline: Counter[Key], folder: Path, path: Path
) -> tuple[Finding, ...]:
    """The findings with the known ones marked, and one more for each that the baseline has in vain.

    Args:
        findings: of all files.
        baseline: what is known.
        folder: what was judged.
        path: of the baseline.
    """
    left = Counter(baseline)
    marked = []
    for finding in findings:
        key = _key(finding, folder)
        is_known = finding.allowed is None and left[key] > 0
        left[key] -= is_known
        marked.append(replace(finding, known=True) if is_known else finding)
    stale = [_stale(key, path) for key, count in sorted(left.items()) for _ in range(count)]
    return (*marked, *stale)


def _key(finding: Finding, folder: Path) -> Key:
    file = os.path.relpath(finding.path, folder if folder.is_dir() else folder.parent)
    return (finding.rule, file.replace(os.sep, "/"), finding.message, finding.text)


def _row_key(row: dict[str, object]) -> Key:
    return (str(row["rule"]), str(row["file"]), str(row["message"]), str(row["text"]))


def _stale(key: Key, path: Path) -> Finding:
    rule, file, message, text = key
    return Finding(
        rule="BASELINE-001",
        severity=Severity.WARNING,
        path=str(path),
        place=Place(1, 1, 1, 1),
        message=f"{rule} is not found in {file} any more ({message})",
        fix="write the baseline again",
        text=text,
    )
