"""What a run is taken to need of the memory: without steps it needs no optimizer, and is not refused for one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from apr.arch.counts import evidence_memory_bytes, parameter_count, training_memory_bytes
from apr.arch.presets import PRESETS
from apr.train import pretrain
from apr.train.errors import NotEnoughMemory
from apr.train.plan import required_memory_bytes, resolve
from apr.train.reporter import Silent
from apr.train.spec import RunSpec
from tiny import CONFIG as TINY

CONFIG = PRESETS["qwen2-0.5b"]
SPEC = RunSpec(dataset=Path("shards"), run_dir=Path("run"), num_steps=0, batch_size=2, seq_length=512)


@pytest.mark.parametrize(("dtype", "compute_bytes", "copy"), [("fp32", 4, 0), ("bf16", 2, 2)])
def test_step_zero_holds_two_models_and_training_four_times_one(
    dtype: str, compute_bytes: int, copy: int
) -> None:
    evidence = required_memory_bytes(resolve(SPEC), CONFIG, dtype)
    training = required_memory_bytes(resolve(replace(SPEC, num_steps=1)), CONFIG, dtype)
    assert evidence == evidence_memory_bytes(CONFIG, seq_length=512, compute_bytes=compute_bytes)
    assert training == training_memory_bytes(
        CONFIG, batch_size=2, seq_length=512, compute_bytes=compute_bytes
    )
    weights = parameter_count(CONFIG)
    logits = 3 * 4 * (1 << 25)
    assert 0 < evidence - (8 + copy) * weights - logits < 0.1e9
    assert training > (16 + copy) * weights > evidence


def test_only_a_run_with_steps_is_refused_for_the_optimizers_memory(
    tiny_apr: Path, tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"batch_size": 2, "seq_length": 32, "val_tokens": 64, "device": "cpu", "dtype": "fp32"}
    spec = RunSpec(init=tiny_apr, dataset=tiny_shards, run_dir=tmp_path / "zero", num_steps=0, **small)
    free = required_memory_bytes(resolve(spec), TINY, "fp32")
    monkeypatch.setattr(pretrain, "available_memory_bytes", lambda: free)
    assert pretrain.pretrain(spec, Silent())["steps"] == 0
    with pytest.raises(NotEnoughMemory):
        pretrain.pretrain(replace(spec, run_dir=tmp_path / "one", num_steps=1), Silent())
    assert not (tmp_path / "one").exists()
