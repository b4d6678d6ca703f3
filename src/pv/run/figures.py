"""Find the figure in what a program printed, and hold it against its limit."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable
from typing import Any

COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "==": operator.eq,
    "!=": operator.ne,
}


def last_number(stdout: str) -> float | str:
    """The number that is the last line of an output, or why there is none, as a clause."""
    lines = [line.strip() for line in stdout.splitlines() if line.strip()]
    if not lines:
        return "it printed no figure"
    try:
        return _finite(float(lines[-1].replace("_", "x")))  # Python would read 1_0 as ten
    except ValueError:
        return f"its last line is no figure ({lines[-1][:60]!r})"


def json_number(stdout: str, way: str) -> float | str:
    """The number at the end of a way through the last JSON object of an output, or why there is none.

    Args:
        stdout: what was printed.
        way: "loss.mean", "rows.0.value".
    """
    found = _last_object(stdout)
    if found is None:
        return "it printed no JSON object"
    for step in way.split("."):
        try:
            found = found[int(step)] if isinstance(found, list) else found[step]
        except (KeyError, IndexError, TypeError, ValueError):
            return f"its JSON has nothing at {way}"
    if isinstance(found, bool) or not isinstance(found, int | float):
        return f"its JSON has {found!r} at {way}, which is no number"
    try:
        return _finite(float(found))
    except OverflowError:  # a whole number may have any length
        return f"its figure at {way} is larger than any float"


def _finite(value: float) -> float | str:
    return value if math.isfinite(value) else f"its figure is {value}"


def _last_object(stdout: str) -> Any:
    """All of the output as JSON, or its last line that is an object."""
    for text in (stdout, *reversed(stdout.splitlines())):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict | list):
            return value
    return None
