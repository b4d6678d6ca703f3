"""The learning rate that the options imply, computed a second time, against the plan's and the optimizer's."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from apr.stepzero.gate import GateResult
from apr.stepzero.schedule import implied_rate, schedule_gate, telling_steps
from apr.train.certify_optimizer import read_back_gate
from apr.train.optimizer import build_optimizer
from apr.train.plan import RunPlan, resolve
from apr.train.schedule import learning_rate
from apr.train.spec import RunSpec

PEAK = 1e-3
Rate = Callable[[int, int, int, str], float]  # (step, warm-up steps, steps, schedule)


def plan_of(**changes: Any) -> RunPlan:
    return resolve(RunSpec(dataset=Path("d"), run_dir=Path("r"), **changes))


def implied(step: int, warmup_steps: int, num_steps: int, schedule: str) -> float:
    return implied_rate(step, peak=PEAK, warmup_steps=warmup_steps, num_steps=num_steps, schedule=schedule)


def judge(planned: Rate, held: Rate, warmup_steps: int, num_steps: int, schedule: str) -> GateResult:
    given = (warmup_steps, num_steps, schedule)
    rates = [
        (step, implied(step, *given), planned(step, *given), held(step, *given))
        for step in telling_steps(num_steps, warmup_steps)
    ]
    gate = schedule_gate(rates, num_steps=num_steps, warmup_steps=warmup_steps, peak=PEAK)
    assert gate.id == "optimizer.schedule"
    assert bool(gate.cause) is (gate.verdict == "no")
    return gate


plans = st.builds(
    plan_of,
    num_steps=st.integers(0, 10**6),
    warmup_steps=st.integers(0, 10**6) | st.integers(0, 5),
    lr=st.floats(1e-9, 1.0),
    schedule=st.sampled_from(["cosine", "constant"]),
)


@given(plans, st.data())
def test_two_ways_of_computing_a_rate_agree_at_every_step(plan: RunPlan, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, max(0, plan.num_steps - 1)))
    rate = implied_rate(
        step,
        peak=plan.lr,
        warmup_steps=plan.warmup_steps,
        num_steps=plan.num_steps,
        schedule=plan.schedule,
    )
    assert math.isclose(rate, plan.learning_rate(step), rel_tol=1e-9)


@given(plans)
def test_every_plan_is_a_yes_and_leaves_the_first_rate(plan: RunPlan) -> None:
    weights = [("w", torch.nn.Parameter(torch.ones(2, 2))), ("b", torch.nn.Parameter(torch.ones(2)))]
    optimizer = build_optimizer(weights, lr=plan.lr, betas=plan.betas, weight_decay=plan.weight_decay)
    gate = read_back_gate(optimizer, plan)
    assert (gate.verdict, gate.figure, gate.limit) == ("yes", 0, 0)
    assert (gate.facts["num_steps"], gate.facts["peak"]) == (plan.num_steps, plan.lr)
    assert [group["lr"] for group in optimizer.param_groups] == [plan.learning_rate(0)] * 2


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_telling_steps_are_of_the_run(num_steps: int, warmup_steps: int) -> None:
    steps = telling_steps(num_steps, warmup_steps)
    assert steps[0] == 0
    assert steps[-1] == max(0, num_steps - 1)
    assert steps == sorted(set(steps))
    if warmup_steps < num_steps:
        assert warmup_steps in steps


def real(step: int, warmup_steps: int, num_steps: int, schedule: str) -> float:
    return learning_rate(step, peak=PEAK, warmup_steps=warmup_steps, num_steps=num_steps, schedule=schedule)


# What schedules have got wrong, and the schedules that can show it.
WRONG: dict[str, tuple[Rate, tuple[str, ...]]] = {
    "ten times too high": (lambda s, w, n, k: 10 * real(s, w, n, k), ("cosine", "constant")),
    "no warm-up": (lambda s, w, n, k: PEAK if s < w else real(s, w, n, k), ("cosine", "constant")),
    "a warm-up from zero": (
        lambda s, w, n, k: PEAK * s / w if s < w else real(s, w, n, k),
        ("cosine", "constant"),
    ),
    "a step late": (lambda s, w, n, k: real(max(0, s - 1), w, n, k), ("cosine", "constant")),
    "a step early": (lambda s, w, n, k: real(s + 1, w, n, k), ("cosine", "constant")),
    "goes on from before": (lambda s, w, n, k: real(s + 60, w, n, k), ("cosine", "constant")),
    "of a run twice as long": (lambda s, w, n, k: real(s, w, 2 * n, k), ("cosine",)),
    "a fall to zero": (
        lambda s, w, n, k: real(s, w, n, k) - PEAK * 0.1 * max(0, s - w) / (n - 1 - w),
        ("cosine",),
    ),
    "constant": (lambda s, w, n, k: real(s, w, n, "constant"), ("cosine",)),
    "cosine": (lambda s, w, n, k: real(s, w, n, "cosine"), ("constant",)),
    "linear": (
        lambda s, w, n, k: real(s, w, n, k) if s < w else PEAK * (1 - 0.9 * (s - w) / (n - 1 - w)),
        ("constant",),  # halfway down, line and cosine meet: see below
    ),
    "epochs for steps": (lambda s, w, n, k: real(s // 100, w, n, k), ("cosine", "constant")),
    "nothing at all": (lambda s, w, n, k: 0.0, ("cosine", "constant")),
    "no number": (lambda s, w, n, k: math.nan, ("cosine", "constant")),
}


@pytest.mark.parametrize(("warmup_steps", "num_steps"), [(10, 100), (3, 7), (100, 5000)])
@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_schedule_is_seen_at_a_telling_step(case: str, warmup_steps: int, num_steps: int) -> None:
    wrong, schedules = WRONG[case]
    for schedule in schedules:
        assert judge(real, real, warmup_steps, num_steps, schedule).verdict == "yes"
        gate = judge(wrong, wrong, warmup_steps, num_steps, schedule)
        assert gate.verdict == "no"
        assert gate.figure > 0
        assert "options imply" in gate.cause
        gate = judge(real, wrong, warmup_steps, num_steps, schedule)
        assert gate.verdict == "no"
        assert "optimizer holds" in gate.cause


def test_a_line_for_a_cosine_is_seen() -> None:
    gate = judge(WRONG["linear"][0], real, 10, 1000, "cosine")
    assert gate.verdict == "no"


def test_every_rate_is_written_down() -> None:
    gate = judge(real, real, 2, 10, "cosine")
    assert [item["step"] for item in gate.facts["rates"]] == [0, 1, 2, 4, 9]
    assert gate.facts["rates"][0] == {
        "step": 0,
        "implied": PEAK / 2,
        "planned": PEAK / 2,
        "read_back": PEAK / 2,
    }
