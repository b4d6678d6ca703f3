"""The verdicts of a run, as a table or for machines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from pv.errors import printable
from pv.run.verdict import Result, Verdict

_TAIL_LINES = 30


def verdict_table(results: Sequence[Result], live_left_out: int, unread: Sequence[tuple[str, str]]) -> str:
    """One line a claim, below its contract, and the counts.

    Args:
        results: in order.
        live_left_out: how many live claims were not asked for.
        unread: files that cannot be read, with the reason.
    """
    width = max((len(result.id) for result in results), default=0)
    lines: list[str] = []
    stem = None
    for result in results:
        if result.contract.stem != stem:
            stem = result.contract.stem
            lines.append(stem)
        lines.append(f"  {result.word:<14}  {result.id:<{width}}  {result.why}")
    for path, reason in unread:
        lines += [path, f"  not read        {reason}"]
    return "\n".join([*map(printable, lines), "", _summary(results, live_left_out, len(unread))])


def _summary(results: Sequence[Result], live_left_out: int, unread: int) -> str:
    counts = Counter(result.verdict for result in results)
    said = [f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict]]
    pending = sum(result.is_pending for result in results)
    if pending:
        said.append(f"{pending} of these pending")
    if live_left_out:
        said.append(f"{live_left_out} live left out (--live runs them)")
    if unread:
        said.append(f"{unread} file(s) not read")
    return f"{counts[Verdict.SURVIVED]} of {len(results)} survived: {', '.join(said)}"


def failures(results: Sequence[Result]) -> str:
    """What was printed by the runs that were refuted or gave no answer: the end of each."""
    parts = []
    for result in results:
        answer = result.answer
        if answer is None or answer.output is None or not answer.output.tail.strip():
            continue
        if result.verdict in (Verdict.REFUTED, Verdict.NO_ANSWER) and answer.said.value != "held":
            last = answer.output.tail.rstrip().splitlines()[-_TAIL_LINES:]
            tail = "\n".join(printable(line.expandtabs()) for line in last)
            parts.append(f"--- {result.id}: the last lines of what it printed\n{tail}\n")
    return "\n".join(parts)


def verdict_json(
    results: Sequence[Result], live_left_out: int, unread: Sequence[tuple[str, str]], code: int
) -> str:
    """The same for machines."""
    document = {
        "results": [_row(result) for result in results],
        "live_left_out": live_left_out,
        "unread": [{"path": path, "reason": reason} for path, reason in unread],
        "exit_code": code,
    }
    return json.dumps(document, indent=1)


def _row(result: Result) -> dict[str, Any]:
    answer = result.answer
    figure = answer.figure if answer else None
    return {
        "contract": result.contract.stem,
        "id": result.id,
        "verdict": result.verdict.value,
        "why": result.why,
        "pending": result.is_pending,
        "counts": answer.counts.as_dict() if answer and answer.counts else None,
        "figure": None if figure is None else figure.value,
        "exit_code": answer.exit_code if answer else None,
        "grade": answer.facts.get("grade") if answer else None,
        "controls": [
            {"planted": c.planted, "verdict": c.verdict.value, "why": c.why} for c in result.controls
        ],
        "seconds": round(result.end_unix_s - result.start_unix_s, 3),
    }
