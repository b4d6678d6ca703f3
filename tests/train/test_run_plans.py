"""A plan has every number, where it came from, and a digest."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from apr.base.errors import BadOption
from apr.train.errors import SequenceBeyondModel, TooFewWindows
from apr.train.plan import RunPlan, check_fit, plan_warnings, resolve
from apr.train.spec import RunSpec
from tiny import CONFIG


def spec(**changes: Any) -> RunSpec:
    return RunSpec(dataset=Path("d"), run_dir=Path("r"), **changes)


OTHER: dict[str, Any] = {
    "mode": "from-scratch",
    "num_steps": 7,
    "batch_size": 3,
    "seq_length": 64,
    "grad_accum": 2,
    "steps_per_epoch": 5,
    "lr": 1e-3,
    "warmup_steps": 3,
    "target_val_loss": 1.0,
    "weight_decay": 0.2,
    "betas": (0.8, 0.99),
    "grad_clip": 0.5,
    "schedule": "constant",
    "seed": 7,
    "device": "cpu",
    "dtype": "fp32",
    "val_tokens": 99,
    "spike": "abort",
    "spike_threshold": 7.0,
    "spike_window": 64,
    "allow_shard_cycle": True,
    "synthetic": True,
}


@pytest.mark.parametrize(
    ("mode", "values"),
    [
        (None, ("finetune", 5e-5, 100, 2.2)),
        ("finetune", ("finetune", 5e-5, 100, 2.2)),
        ("from-scratch", ("from-scratch", 3e-4, 1000, 3.0)),
    ],
)
@pytest.mark.parametrize("init", [None, Path("m.apr")])
def test_a_mode_flips_four_values_together(
    mode: str | None, values: tuple[Any, ...], init: Path | None
) -> None:
    plan = resolve(spec(mode=mode, init=init))
    assert (plan.mode, plan.lr, plan.warmup_steps, plan.target_val_loss) == values
    assert plan.sources["lr"] == f"--mode {values[0]}"
    assert plan.from_init is (init is not None)


def test_the_defaults_are_those_written_down() -> None:
    plan = resolve(spec())
    assert (plan.num_steps, plan.batch_size, plan.seq_length, plan.grad_accum) == (1000, 16, 1024, 1)
    assert (plan.steps_per_epoch, plan.weight_decay, plan.betas, plan.grad_clip) == (
        100,
        0.01,
        (0.9, 0.95),
        1.0,
    )
    assert (plan.schedule, plan.seed, plan.device, plan.dtype) == ("cosine", 42, "auto", "auto")
    assert (plan.synthetic, plan.allow_shard_cycle) == (False, False)


@pytest.mark.parametrize("name", OTHER)
def test_what_is_asked_for_is_taken_and_named_and_digested(name: str) -> None:
    """Every option reaches the plan: one that nothing reads would fail here."""
    plan = resolve(spec(**{name: OTHER[name]}))
    assert getattr(plan, name) == OTHER[name]
    assert plan.sources[name] not in ("default", "--mode finetune")
    assert plan.digest != resolve(spec()).digest


def test_an_explicit_option_wins_over_the_mode() -> None:
    plan = resolve(spec(mode="from-scratch", lr=1e-6))
    assert (plan.lr, plan.sources["lr"]) == (1e-6, "--lr")
    assert (plan.warmup_steps, plan.sources["warmup_steps"]) == (1000, "--mode from-scratch")


def test_every_value_has_a_source_in_the_document() -> None:
    document = json.loads(json.dumps(resolve(spec(seed=1)).to_dict()))
    names = {field.name for field in fields(RunPlan)} - {"sources"}
    assert set(document["values"]) == names
    assert all(set(item) == {"value", "source"} and item["source"] for item in document["values"].values())
    assert document["values"]["seed"] == {"value": 1, "source": "--seed"}
    assert document["digest"] == resolve(spec(seed=1)).digest


def test_a_source_does_not_change_the_digest() -> None:
    assert resolve(spec(seed=42)).digest == resolve(spec()).digest


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_steps", -1),
        ("warmup_steps", -1),
        *((name, 0) for name in ("batch_size", "seq_length", "grad_accum", "steps_per_epoch", "val_tokens")),
        ("seq_length", 1),  # queries and keys of a single token get no gradient
        *((n, v) for n in ("lr", "target_val_loss") for v in (0.0, -1.0, math.nan, math.inf)),
        *((n, v) for n in ("weight_decay", "grad_clip") for v in (-0.1, math.nan, math.inf)),
        ("betas", (0.9, 1.0)),
        ("betas", (-0.1, 0.9)),
        ("betas", (0.9, math.nan)),
        ("schedule", "linear"),
        *(("spike", value) for value in ("skip", "skip:0", "skip:-1", "stop", "")),
        *(("spike_threshold", value) for value in (0.0, math.nan)),
        ("spike_window", 3),
        ("dtype", "fp16"),
        ("seed", -1),
        ("seed", 2**63),
        ("mode", "pretrain"),
    ],
)
def test_a_value_out_of_range_is_named(name: str, value: Any) -> None:
    with pytest.raises(BadOption) as caught:
        resolve(spec(**{name: value}))
    assert caught.value.option == f"--{name.replace('_', '-')}"


@pytest.mark.parametrize(
    ("num_steps", "per_epoch", "epochs"), [(0, 2, 0), (1, 2, 1), (4, 2, 2), (5, 2, 3), (1000, 100, 10)]
)
def test_counts_follow(num_steps: int, per_epoch: int, epochs: int) -> None:
    plan = resolve(spec(num_steps=num_steps, steps_per_epoch=per_epoch, batch_size=3, grad_accum=2))
    assert plan.num_epochs == epochs
    assert plan.num_windows == 6 * num_steps


def test_a_run_longer_than_its_corpus_is_refused_unless_it_may_repeat() -> None:
    plan = resolve(spec(num_steps=5, batch_size=2, grad_accum=1, seq_length=32))
    check_fit(plan, CONFIG, dataset="d", available_windows=10)
    with pytest.raises(TooFewWindows) as caught:
        check_fit(plan, CONFIG, dataset="d", available_windows=9)
    assert (caught.value.needed, caught.value.available) == (10, 9)
    check_fit(replace(plan, allow_shard_cycle=True), CONFIG, dataset="d", available_windows=1)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"max_position_embeddings": 31}, "max_position_embeddings"),
        ({"sliding_window": 31}, "sliding_window"),
    ],
)
def test_a_window_beyond_the_model_is_refused(changes: dict[str, int], name: str) -> None:
    plan = resolve(spec(num_steps=1, batch_size=1, seq_length=32))
    with pytest.raises(SequenceBeyondModel) as caught:
        check_fit(plan, replace(CONFIG, **changes), dataset="d", available_windows=10)
    assert caught.value.limit_name == name


@pytest.mark.parametrize(
    ("changes", "num_warnings"),
    [
        ({"init": Path("m")}, 0),
        ({"init": Path("m"), "mode": "from-scratch"}, 1),
        ({"mode": "from-scratch"}, 0),
        ({}, 1),
        ({"init": Path("m"), "warmup_steps": 1001}, 0),
        ({"init": Path("m"), "num_steps": 0}, 0),
    ],
)
def test_what_is_probably_not_meant_is_said(changes: dict[str, Any], num_warnings: int) -> None:
    given = {"num_steps": 1001, **changes}
    assert len(plan_warnings(spec(**given), resolve(spec(**given)))) == num_warnings
