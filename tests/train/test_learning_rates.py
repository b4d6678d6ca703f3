"""The learning rate at named steps, and always within its bounds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apr.stepzero.schedule import implied_rate
from apr.train.schedule import SCHEDULES, learning_rate

PEAK = 1e-3


@pytest.mark.parametrize(
    ("step", "cosine", "constant"),
    [
        (0, 0.1, 0.1),  # the first update is not wasted on a rate of zero
        (4, 0.5, 0.5),
        (9, 1.0, 1.0),  # w - 1: the last of the warm-up has the peak
        (10, 1.0, 1.0),  # w
        (10 + 45, 0.55, 1.0),  # half of the fall: midway between the peak and its tenth
        (10 + 30, 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 3)), 1.0),
        (100, 0.1, 1.0),  # the last update of 101
        (200, 0.1, 1.0),
    ],
)
def test_named_steps(step: int, cosine: float, constant: float) -> None:
    for schedule, share in (("cosine", cosine), ("constant", constant)):
        rate = learning_rate(step, peak=PEAK, warmup_steps=10, num_steps=101, schedule=schedule)
        assert rate == pytest.approx(PEAK * share, rel=1e-12)


@pytest.mark.parametrize(
    ("step", "share"),
    [
        (9, 1.0),
        (79, 1.0),  # the last before the fall
        (80, 1 - math.sqrt(1 / 21)),
        (89, 1 - math.sqrt(10 / 21)),
        (99, 1 - math.sqrt(20 / 21)),  # the last update of 100 is not wasted
    ],
)
def test_named_steps_of_wsd(step: int, share: float) -> None:
    options = {"peak": PEAK, "warmup_steps": 10, "num_steps": 100, "schedule": "wsd"}
    assert learning_rate(step, **options) == pytest.approx(PEAK * share, rel=1e-12)


@given(num_steps=st.integers(1, 300), warmup_steps=st.integers(0, 350), schedule=st.sampled_from(SCHEDULES))
def test_step_zero_computes_the_same_another_way(num_steps: int, warmup_steps: int, schedule: str) -> None:
    options = {"peak": PEAK, "warmup_steps": warmup_steps, "num_steps": num_steps, "schedule": schedule}
    for step in range(num_steps):
        assert implied_rate(step, **options) == pytest.approx(learning_rate(step, **options), rel=1e-9)


@settings(deadline=None)
@given(
    num_steps=st.integers(1, 200),
    warmup_steps=st.integers(0, 250),
    schedule=st.sampled_from(SCHEDULES),
    peak=st.floats(1e-8, 1.0),
)
def test_it_rises_then_never_rises_again(
    num_steps: int, warmup_steps: int, schedule: str, peak: float
) -> None:
    rates = [
        learning_rate(step, peak=peak, warmup_steps=warmup_steps, num_steps=num_steps, schedule=schedule)
        for step in range(num_steps)
    ]
    assert all(0 < rate <= peak * (1 + 1e-12) for rate in rates)
    top = min(warmup_steps, num_steps)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    if schedule == "cosine" and num_steps - warmup_steps > 1:
        assert rates[-1] == pytest.approx(peak / 10)
