"""A gate: one claim, judged, timed and written down."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Verdict = Literal["yes", "no", "not known"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """What a gate found. `figure` and `limit` are what a reader compares; `facts` hold the rest."""

    id: str
    claim: str
    verdict: Verdict
    figure: str | float | int | None
    limit: str | float | int | None
    cause: str = ""  # for a no: what is wrong, one clause that a refusal can carry
    seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "id": self.id,
            "claim": self.claim,
            "verdict": self.verdict,
            "figure": json_value(self.figure),
            "limit": self.limit,
            "cause": self.cause,
            "seconds": round(self.seconds, 3),
            "facts": json_value(self.facts),
        }


def json_value(value: Any) -> Any:
    """The value with NaN and infinities spelled out: JSON has no word for them and they must not be hidden."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    return value


def not_known(gate_id: str, claim: str, reason: str) -> GateResult:
    """A gate that could not be judged, and why."""
    return GateResult(
        id=gate_id, claim=claim, verdict="not known", figure=None, limit=None, facts={"reason": reason}
    )


def verdict_of(holds: bool) -> Verdict:
    """The word for a decided claim."""
    return "yes" if holds else "no"


def timed(judge: Callable[[], GateResult]) -> GateResult:
    """Run a gate and note how long it took, in seconds."""
    start = time.perf_counter()
    result = judge()
    return replace(result, seconds=result.seconds + time.perf_counter() - start)


def spelled(figure: str | float | int | None) -> str:
    """Spell a figure for a sentence: four significant digits, separators in large counts."""
    if isinstance(figure, float):
        return f"{figure:.4g}"
    if isinstance(figure, int) and not isinstance(figure, bool):
        return f"{figure:,}"
    return "-" if figure is None else str(figure)
