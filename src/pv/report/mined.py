"""Claims that were mined from a run, and what another run says of them, for people and machines."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pv.mined.claim import Breach
from pv.mined.judge import Held, Judged
from pv.mined.mine import Mined
from pv.mined.run import Run

_MAX_BREACHES = 5  # of a claim, in a table


def mined_table(mined: Mined, run: Run) -> str:
    """A line a claim with its support, and the fields of which nothing is claimed.

    Args:
        mined: what holds throughout the run.
        run: that it was mined from.
    """
    rows = [(claim.text, claim.kind, f"{claim.support(run)} of {len(run)}") for claim in mined.claims]
    rows = [("claim", "kind", "records"), *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    lines = [f"{text:<{widths[0]}}  {kind:<{widths[1]}}  {support}" for text, kind, support in rows]
    left = [f"nothing is claimed of {name}: {why}" for name, why in mined.unclaimed.items()]
    return "\n".join([*lines, *left, f"{len(mined.claims)} claim(s) from {len(run)} records of {run.path}"])


def mined_json(mined: Mined, run: Run) -> str:
    """The same for machines."""
    claims = [
        {"claim": c.text, "kind": c.kind, "fields": list(c.fields), "support": c.support(run)}
        for c in mined.claims
    ]
    document = {
        "run": str(run.path), "records": len(run), "claims": claims, "unclaimed": dict(mined.unclaimed),
    }  # fmt: skip
    return json.dumps(document, indent=1)


def judged_table(judged: Sequence[Judged], run: Run) -> str:
    """A line a claim with what the run says of it; where it is refuted, the first records that do.

    Args:
        judged: the claims.
        run: that they were held against.
    """
    lines: list[str] = []
    for one in judged:
        lines.append(f"{one.held.value:<9}  {one.claim.text}  ({one.support} of {len(run)} records bear it)")
        lines += [f"           {breach.text}" for breach in one.breaches[:_MAX_BREACHES]]
        if len(one.breaches) > _MAX_BREACHES:
            lines.append(f"           and {len(one.breaches) - _MAX_BREACHES} more")
    counts = ", ".join(f"{held.value} {n}" for held in Held if (n := sum(j.held is held for j in judged)))
    return "\n".join([*lines, f"{len(judged)} claim(s) about {run.path}: {counts}"])


def judged_json(judged: Sequence[Judged], run: Run) -> str:
    """The same for machines, with every record that refutes."""
    claims = [
        {
            "claim": one.claim.text, "kind": one.claim.kind, "verdict": one.held.value, "support": one.support,
            "breaches": [_breach(breach, run.path) for breach in one.breaches],
        }
        for one in judged
    ]  # fmt: skip
    return json.dumps({"run": str(run.path), "records": len(run), "claims": claims}, indent=1)


def _breach(breach: Breach, path: Path) -> dict[str, Any]:
    value = breach.value
    if isinstance(value, float) and not math.isfinite(value):
        value = str(value)  # JSON has no spelling for it
    return {"place": breach.place, "field": breach.field, "value": value, "must": breach.must}
