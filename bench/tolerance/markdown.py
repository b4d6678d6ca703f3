"""Markdown from figures."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.tolerance.limits import TODAY, Results, limit

ELSEWHERE = {
    "weights": "the comparison of every parameter's bits with the file, whatever the size",
    "config": "reading the value back from the built module",
    "computation": "nothing else",
}


def prose(text: str) -> str:
    """Fill a paragraph, however its source is wrapped."""
    return textwrap.fill(" ".join(text.split()), 118, break_long_words=False, break_on_hyphens=False) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def short(value: float | None) -> str:
    """Two significant digits, one where the second is 0."""
    if value is None:
        return "NaN"
    if value >= 100 and value < 1e6:
        return f"{value:,.0f}"
    if 0.1 <= value < 100:
        return f"{value:.2g}"
    return "0" if value == 0 else f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-").replace("e+0", "e+")


def times(value: float) -> str:
    return f"{value:.2g} x" if value < 10 else f"{min(value, 1e9):,.0f} x"


def models(results: Results) -> list[tuple[str, Mapping[str, Any]]]:
    return list(results["models"].items())


def todays_limits(results: Results, dtype: str = "fp32") -> dict[str, float]:
    return {figure: limit(results, dtype, figure) for figure in TODAY}
