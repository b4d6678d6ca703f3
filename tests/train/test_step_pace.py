"""The time of a step is measured on parts of the model and extended; here the clock is a count of the work done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from apr.arch.counts import parameter_count
from apr.arch.presets import PRESETS
from apr.model.decoder import Block
from apr.train import pace
from apr.train.device import resolve_compute
from apr.train.pace import Pace, measure_pace
from apr.train.plan import resolve
from apr.train.spec import RunSpec
from tiny import CONFIG, QWEN_LIKE

pytestmark = pytest.mark.usefixtures("one_thread")
COMPUTE = resolve_compute("cpu", "fp32")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the clock: a block's work takes 1 s a layer, the head's 10 s, the update 100 s; an evaluation a tenth."""
    asked: list[str] = []

    def blocks(blocks: Any, config: Any, compute: Any, rows: int, length: int, masked: bool) -> Any:
        asked.append(f"{len(blocks)} blocks {rows}x{length}")
        return pace._Part(train=len(blocks) * rows, evaluate=0.1 * len(blocks) * rows)

    def head(head: Any, compute: Any, num_tokens: int) -> Any:
        asked.append(f"head {head.shape[0]} for {num_tokens}")
        return pace._Part(train=10.0 * num_tokens, evaluate=num_tokens)

    monkeypatch.setattr(pace, "_time_blocks", blocks)
    monkeypatch.setattr(pace, "_time_head", head)
    monkeypatch.setattr(
        pace, "_time_update", lambda parameters, compute: 1e-3 * sum(map(torch.numel, parameters))
    )
    return asked


def measure(config: Any = CONFIG, **changes: Any) -> Pace:
    asked = {"batch_size": 2, "seq_length": 32, "num_steps": 3, **changes}
    plan = resolve(RunSpec(dataset=Path("d"), run_dir=Path("r"), **asked))
    return measure_pace(plan, config, COMPUTE)


def test_parts_are_extended_to_the_whole(counted: list[str]) -> None:
    deep = replace(CONFIG, num_hidden_layers=6)
    update = 1e-3 * parameter_count(deep)
    assert measure(deep, grad_accum=3).step == pytest.approx(3 * (6 * 2 + 10 * 64) + update)
    assert counted == ["2 blocks 2x32", "head 320 for 64"]


def test_the_head_is_measured_on_one_chunk_of_its_rows_and_extended(counted: list[str]) -> None:
    wide = replace(PRESETS["tiny"], vocab_size=2 * 32768, num_hidden_layers=1)
    update = 1e-3 * parameter_count(wide)
    found = measure(wide, batch_size=4, seq_length=256)
    assert counted == ["1 blocks 4x256", "head 32768 for 512"]  # 2^25 logits are 512 tokens
    assert found.step == pytest.approx(4 + 2 * 10 * 1024 + update, rel=1e-3)
    assert found.validation(1000) == pytest.approx(1000 * (0.1 / 256 + 2))


def test_a_large_batch_is_measured_on_the_rows_that_time_allows(
    counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(p.numel() for p in Block(CONFIG).parameters())
    monkeypatch.setattr(pace, "_BUDGET", 3.5 * 6 * 32 * 2 * size)
    update = 1e-3 * parameter_count(CONFIG)
    assert measure(batch_size=12).step == pytest.approx(12 * 2 + 10 * 12 * 32 + update)
    assert counted[0] == "2 blocks 3x32"


def test_what_is_frozen_takes_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block takes 3 s where it is trained, 2 where it only passes the gradient on, 1 where it is evaluated."""
    deep = replace(CONFIG, num_hidden_layers=4)

    def blocks(blocks: Any, config: Any, compute: Any, rows: int, length: int, masked: bool) -> Any:
        adapted = sum(".adapter." in name for name, _ in blocks.named_parameters())
        assert adapted in (0, 16)
        trained = all(p.requires_grad for p in blocks.parameters())
        return pace._Part(train=len(blocks) * (3 if trained else 2.5 if adapted else 2), evaluate=len(blocks))

    monkeypatch.setattr(pace, "_time_blocks", blocks)
    monkeypatch.setattr(
        pace, "_time_head", lambda head, *_: pace._Part(train=10 * head.requires_grad, evaluate=0)
    )
    monkeypatch.setattr(pace, "_time_update", lambda parameters, compute: 0.0)
    one_row: dict[str, Any] = {"batch_size": 1, "seq_length": 32, "init": Path("m")}
    assert measure(deep, **one_row).step == pytest.approx(4 * 3 + 10)
    assert measure(deep, **one_row, lora="r=2").step == pytest.approx(4 * 2.5)
    embedding = "model.embed_tokens.weight"
    assert measure(deep, **one_row, freeze=("*.[01].*",)).step == pytest.approx(2 * 2 + 2 * 3 + 10)
    assert measure(deep, **one_row, freeze=("*.[01].*", embedding)).step == pytest.approx(2 * 1 + 2 * 3)
    assert measure(deep, **one_row, freeze=("*.3.*", embedding)).step == pytest.approx(3 * 3 + 2)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("config", [CONFIG, QWEN_LIKE], ids=["llama", "qwen"])
def test_a_real_measurement_gives_seconds(config: Any, dtype: str) -> None:
    plan = resolve(RunSpec(dataset=Path("d"), run_dir=Path("r"), batch_size=2, seq_length=32))
    found = measure_pace(plan, config, resolve_compute("cpu", dtype))
    assert 0 < found.validation_token < found.step < 60


def test_the_update_moves_what_the_step_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """An update without gradients would cost nothing: AdamW skips such parameters."""
    seen: list[int] = []
    original = torch.optim.AdamW.step

    def step(self: Any, *args: Any) -> Any:
        seen.append(sum(p.grad is None for group in self.param_groups for p in group["params"]))
        return original(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    measure()
    assert seen
    assert not any(seen)
