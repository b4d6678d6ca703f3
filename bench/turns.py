"""Run two commands in turn and compare what they report.

The machine is shared and its speed drifts, so a figure is only ever a ratio: us and the peer, one after the other,
round after round, and the median of the rounds' ratios.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any


def run_side(module: str, side: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Run one side in a fresh process; its last line on stdout is its report."""
    command = [sys.executable, "-m", module, side, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def take_turns(module: str, arguments: Sequence[str], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Run ours and theirs in turn; the first round warms the file cache and is not counted."""
    reports: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}
    for number in range(rounds + 1):
        for side, kept in reports.items():
            report = run_side(module, side, arguments)
            note = "warm-up" if number == 0 else f"round {number}/{rounds}"
            print(f"  {note} {side}: {json.dumps(report)}", file=sys.stderr, flush=True)
            if number:
                kept.append(report)
    return reports


def spread(values: Sequence[float]) -> dict[str, float]:
    """Minimum, median, maximum."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def ratios(reports: dict[str, list[dict[str, Any]]], key: str) -> dict[str, float]:
    """Theirs over ours, round by round: above 1 is in our favour where less is better."""
    pairs = zip(reports["theirs"], reports["ours"], strict=True)
    return spread([theirs[key] / ours[key] for theirs, ours in pairs])
