"""The learning rate that the plan gives, against the one that its options imply, computed here a second time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from apr.stepzero.gate import GateResult, verdict_of

_DECAY_SHARE = 0.2  # of the updates, at the end of wsd (Haegele et al. 2024, arXiv:2405.18392)
_FINAL_SHARE = 0.1  # of the peak, at the last update of a cosine (Hoffmann et al. 2022, arXiv:2203.15556)


def telling_steps(num_steps: int, warmup_steps: int) -> list[int]:
    """The updates at which a wrong schedule shows: first, end of the warm-up and after it, middle, late, last."""
    last = max(0, num_steps - 1)
    ends = {0, min(max(0, warmup_steps - 1), last), min(warmup_steps, last), last}
    return sorted({*ends, last // 2, last - last // 10})


def implied_rate(step: int, *, peak: float, warmup_steps: int, num_steps: int, schedule: str) -> float:
    """What the options imply for an update, 0 for the first: linear up to the peak, then as the schedule says."""
    if warmup_steps and step + 1 <= warmup_steps:
        return (step + 1) * peak / warmup_steps
    if schedule == "constant":
        return peak
    if schedule == "wsd":
        length = min(round(_DECAY_SHARE * num_steps), num_steps - warmup_steps)
        left = num_steps - 1 - step  # updates after this one
        if left >= length:
            return peak
        return peak - peak * math.sqrt((length - max(0, left)) / (length + 1))
    first, last = warmup_steps, num_steps - 1
    share = 1.0 if last <= first and step > first else (step - first) / max(1, last - first)
    floor = _FINAL_SHARE * peak
    return floor + (peak - floor) * (1 + math.cos(math.pi * min(1.0, share))) / 2


def schedule_gate(
    rates: Sequence[tuple[int, float, float, float]], *, num_steps: int, warmup_steps: int, peak: float
) -> GateResult:
    """The rate in the optimizer is the plan's, and the plan's is what the options imply.

    Args:
        rates: (step, implied by the options, given by the plan, read back from the optimizer).
        num_steps, warmup_steps, peak: the options.
    """
    wrong = []
    for step, implied, planned, held in rates:
        if not math.isclose(implied, planned, rel_tol=1e-9, abs_tol=1e-15):
            wrong.append(
                f"the schedule gives {planned:.4g} at step {step}, and the options imply {implied:.4g}"
            )
        elif not math.isclose(planned, held, rel_tol=1e-9, abs_tol=1e-15):
            wrong.append(f"the optimizer holds {held:.4g} at step {step}, and the plan says {planned:.4g}")
    return GateResult(
        id="optimizer.schedule",
        claim="the learning rate in the optimizer is the one that the options imply, from the first step to the last",
        verdict=verdict_of(not wrong),
        figure=len(wrong),
        limit=0,
        cause=wrong[0] if wrong else "",
        facts={
            "num_steps": num_steps,
            "warmup_steps": warmup_steps,
            "peak": peak,
            "rates": [
                {"step": step, "implied": implied, "planned": planned, "read_back": held}
                for step, implied, planned, held in rates
            ],
        },
    )
