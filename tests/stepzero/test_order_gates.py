"""The order of the data: the planned windows, each once, whole, shifted by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from apr.data.batches import Batch, BatchStream
from apr.data.shards import open_dataset
from apr.data.windows import IGNORED_TARGET
from apr.stepzero.gate import GateResult
from apr.stepzero.order import LOOKED_AT, digested_batches, order_gate
from apr.train.certify_tokens import order_judge
from apr.train.plan import RunPlan, resolve
from apr.train.spec import RunSpec

T, B, NUM_WINDOWS = 6, 3, 20
TOKENS = np.random.default_rng(0).integers(0, 500, T * NUM_WINDOWS - 2).astype(np.uint32)  # the last is short
PLANNED = np.random.default_rng(1).permutation(NUM_WINDOWS)
LAST = NUM_WINDOWS - 1


def window(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets of a window, padded behind the corpus."""
    tokens = TOKENS[index * T : index * T + T + 1].astype(np.int64)
    inputs, targets = np.zeros(T, dtype=np.int64), np.full(T, IGNORED_TARGET, dtype=np.int64)
    inputs[: len(tokens) - 1], targets[: len(tokens) - 1] = tokens[:-1], tokens[1:]
    return inputs, targets


def batch(indices: Any) -> Batch:
    pairs = [window(int(index)) for index in indices]
    inputs, targets = (torch.from_numpy(np.stack([pair[side] for pair in pairs])) for side in (0, 1))
    count = int((targets != IGNORED_TARGET).sum())
    chosen = tuple(int(index) for index in indices)
    return Batch(inputs_BT=inputs, targets_BT=targets, num_target_tokens=count, window_indices=chosen)


def judge(**changes: Any) -> GateResult:
    planned = changes.get("planned", PLANNED)
    given: dict[str, Any] = {
        "batches": [batch(planned[:B]), batch(planned[B : 2 * B])],
        "planned": planned,
        "num_windows": NUM_WINDOWS,
        "seq_length": T,
        "total_tokens": len(TOKENS),
        "read": lambda start, stop: TOKENS[start:stop],
        "digest": "ab" * 32,
        "asked": (B, B),
        "begins_at": 0,
    }
    gate = order_gate(**{**given, **changes})
    assert gate.id == "data.order"
    assert bool(gate.cause) is (gate.verdict == "no")
    return gate


def test_the_planned_windows_are_a_yes() -> None:
    gate = judge()
    assert (gate.verdict, gate.figure, gate.limit) == ("yes", 0, 0)
    assert gate.facts == {"order_sha256": "ab" * 32, "num_batches_read": 2, "num_windows": NUM_WINDOWS}


def test_a_window_that_is_not_full_is_padded() -> None:
    planned = np.array([LAST, *(i for i in PLANNED if i != LAST)])
    assert judge(planned=planned).verdict == "yes"


def test_a_second_epoch_may_repeat_the_first() -> None:
    planned = np.concatenate([PLANNED, PLANNED[::-1]])
    assert judge(planned=planned).verdict == "yes"


def test_few_windows_may_come_in_order_by_chance() -> None:
    assert judge(planned=np.arange(15), num_windows=15).verdict == "yes"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"begins_at": 8}, "window 8"),
        ({"asked": (B, B + 1)}, f"{B} windows, and {B + 1}"),
        ({"planned": np.array([*PLANNED[:-1], NUM_WINDOWS])}, f"window {NUM_WINDOWS} of"),
        ({"planned": np.array([*PLANNED[:-1], -1])}, "of 20"),
        ({"planned": np.array([*PLANNED[:-1], PLANNED[0]])}, "1 of the first 20 windows come twice"),
        ({"planned": np.tile(PLANNED[:10], 2)}, "10 of the first 20"),
        ({"planned": np.arange(NUM_WINDOWS)}, "not shuffled"),
        ({"planned": np.roll(np.arange(NUM_WINDOWS), 7)}, "not shuffled"),
        ({"batches": [batch(PLANNED[B : 2 * B]), batch(PLANNED[:B])]}, "other windows"),
        ({"batches": [batch(PLANNED[:B])] * 2}, "other windows"),
        ({"batches": [batch(PLANNED[:B][::-1])]}, "other windows"),
    ],
)
def test_an_order_that_is_none_is_a_no(changes: dict[str, Any], word: str) -> None:
    gate = judge(**changes)
    assert gate.verdict == "no"
    assert word in gate.cause


def spoilt(item: Batch, **tensors: Callable[[torch.Tensor], Any]) -> Batch:
    """The batch with a change made in copies of its tensors."""
    copies = {name: getattr(item, name).clone() for name in tensors}
    for name, change in tensors.items():
        change(copies[name])
    return replace(item, **copies)


def put(row: int, column: int, value: int) -> Callable[[torch.Tensor], Any]:
    return lambda tensor: tensor[row].__setitem__(column, value)


SHORT = np.array([*PLANNED[PLANNED != LAST][:1], LAST, *PLANNED[PLANNED != LAST][1:]])  # row 1 is padded
DEFECTS: dict[str, tuple[Callable[[Batch], Batch], str]] = {
    "an input is another": (lambda item: spoilt(item, inputs_BT=put(2, T - 1, 1)), "inputs in row 2"),
    "a target is another": (lambda item: spoilt(item, targets_BT=put(0, 3, 1)), "targets in row 0"),
    "targets are the inputs": (
        lambda item: replace(item, targets_BT=item.inputs_BT),
        "targets in row 0",
    ),
    "targets are two behind": (
        lambda item: replace(item, targets_BT=item.targets_BT.roll(-1, 1)),
        "targets in row 0",
    ),
    "a target is ignored": (lambda item: spoilt(item, targets_BT=put(0, 3, IGNORED_TARGET)), "targets in"),
    "padding is trained on": (lambda item: spoilt(item, targets_BT=put(1, T - 1, 0)), "padding in row 1"),
    "the count is another": (
        lambda item: replace(item, num_target_tokens=item.num_target_tokens + 1),
        "counts",
    ),
    "rows are exchanged": (lambda item: replace(item, inputs_BT=item.inputs_BT.flip(0)), "inputs in row 0"),
}


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("case", DEFECTS)
def test_a_batch_that_is_not_its_windows_is_a_no(case: str, number: int) -> None:
    spoil, word = DEFECTS[case]
    planned = SHORT if number == 0 else np.array([*SHORT[B : 2 * B], *SHORT[:B], *SHORT[2 * B :]])
    batches = [batch(planned[:B]), batch(planned[B : 2 * B])]
    assert judge(planned=planned, batches=batches).verdict == "yes"
    batches[number] = spoil(batches[number])
    gate = judge(planned=planned, batches=batches)
    assert gate.verdict == "no"
    assert word in gate.cause
    assert f"batch {number}" in gate.cause


@given(st.integers(0, 10**12), st.integers(1, 10**6))
def test_a_digest_is_of_a_run_and_of_no_more_than_can_be_hashed(num_batches: int, batch_size: int) -> None:
    digested = digested_batches(num_batches, batch_size)
    assert min(num_batches, 1) <= digested <= num_batches
    assert digested == num_batches or digested * batch_size <= 1 << 16 or digested == 1


# --- of a run's own stream -----------------------------------------------------------------------


class Opened:
    """The inputs, as far as the judge looks at them."""

    def __init__(self, shards: Path) -> None:
        self.train = open_dataset(shards)


def judged(shards: Path, **changes: Any) -> tuple[GateResult, BatchStream, RunPlan]:
    given = {"num_steps": 3, "batch_size": 2, "seq_length": 32, "grad_accum": 2, **changes}
    plan = resolve(RunSpec(dataset=shards, run_dir=shards, **given))
    inputs: Any = Opened(shards)
    stream = BatchStream(
        inputs.train, plan.seq_length, plan.batch_size, plan.seed, allow_cycle=plan.allow_shard_cycle
    )
    return order_judge(stream, inputs, plan), stream, plan


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_steps": 1, "grad_accum": 1},
        {"batch_size": 1},
        {"batch_size": 500, "allow_shard_cycle": True},
        {"num_steps": 10**12, "allow_shard_cycle": True},
        {"num_steps": 1, "seq_length": 2, "batch_size": 1500},
    ],
)
def test_a_runs_stream_is_a_yes_and_at_its_start_again(tiny_shards: Path, changes: dict[str, Any]) -> None:
    gate, stream, plan = judged(tiny_shards, **changes)
    assert (gate.verdict, stream.cursor) == ("yes", 0)
    assert gate.facts["num_batches_read"] == min(2, plan.num_steps * plan.grad_accum)
    num_batches = digested_batches(plan.num_steps * plan.grad_accum, plan.batch_size)
    assert gate.facts["order_sha256"] == stream.order_digest(num_batches)


def test_two_batches_are_looked_at_however_large_they_are(tiny_shards: Path) -> None:
    """The windows that are looked at must hold those that are read."""
    size = LOOKED_AT // 2 + 1
    gate, _, _ = judged(
        tiny_shards, batch_size=size, seq_length=2, grad_accum=1, num_steps=2, allow_shard_cycle=True
    )
    assert gate.verdict == "yes"


def test_a_stream_that_has_begun_is_a_no(tiny_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = BatchStream.__init__
    monkeypatch.setattr(BatchStream, "__init__", lambda self, *a, **k: original(self, *a, **k, cursor=4))
    gate, stream, _ = judged(tiny_shards)
    assert (gate.verdict, stream.cursor) == ("no", 4)
