"""The learning rate as a function of the step."""

from __future__ import annotations

import math

SCHEDULES: tuple[str, ...] = ("cosine", "wsd", "constant")
FINAL_SHARE = 0.1  # the cosine ends at a tenth of the peak (Hoffmann et al. 2022, arXiv:2203.15556)

# Warm-up, stable, decay: the last fifth of the updates falls as 1 - sqrt (Haegele et al. 2024, arXiv:2405.18392). The
# last update still has a rate: a step of zero would be computed for nothing.
DECAY_SHARE = 0.2


def learning_rate(step: int, *, peak: float, warmup_steps: int, num_steps: int, schedule: str) -> float:
    """Return the learning rate of an update.

    Args:
        step: index of the update, 0 for the first.
        peak: the largest learning rate.
        warmup_steps: updates over which it rises linearly; the last of them has the peak.
        num_steps: updates of the whole run: the cosine reaches its end at the last one.
        schedule: `cosine` falls to a tenth of the peak, `wsd` stays and falls in the last fifth, `constant` stays.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if schedule == "constant":
        return peak
    if schedule == "wsd":
        decay_steps = min(round(DECAY_SHARE * num_steps), num_steps - warmup_steps)
        into = step - (num_steps - decay_steps) + 1  # updates of the decay so far, this one included
        return peak * (1 - math.sqrt(min(into, decay_steps) / (decay_steps + 1))) if into > 0 else peak
    span = max(1, num_steps - 1 - warmup_steps)
    progress = min(1.0, (step - warmup_steps) / span)
    return peak * (FINAL_SHARE + (1 - FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * progress)))
