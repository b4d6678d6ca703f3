"""What was asked of a run, before anything is decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


def option_of(name: str) -> str:
    """The option that sets a field."""
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """The options of `apr pretrain`. None means not asked: the plan then says where the value came from."""

    run_dir: Path
    dataset: Path | None = None  # only a resumed run may leave it out: its directory says where it was
    init: Path | None = None
    mode: str | None = None
    arch: str | None = None
    tokenizer: Path | None = None
    num_steps: int | None = None
    batch_size: int | None = None
    seq_length: int | None = None
    grad_accum: int | None = None
    steps_per_epoch: int | None = None
    lr: float | None = None
    warmup_steps: int | None = None
    target_val_loss: float | None = None
    weight_decay: float | None = None
    betas: tuple[float, float] | None = None
    grad_clip: float | None = None
    schedule: str | None = None
    seed: int | None = None
    synthetic: bool = False
    device: str | None = None
    dtype: str | None = None
    val_shard: Path | None = None
    val_tokens: int | None = None
    keep: str | None = None
    save: str | None = None
    spike: str | None = None
    spike_threshold: float | None = None
    spike_window: int | None = None
    log: tuple[str, ...] | None = (
        None  # loggers beside metrics.jsonl; no part of the plan: they must not matter
    )
    allow_shard_cycle: bool = False
    freeze: tuple[str, ...] | None = None  # globs over the tensors of the model
    lora: str | None = None
    document_mask: bool = False
    resume: bool = False
    places: Mapping[str, str] = field(default_factory=dict)  # of what no option gave: a run file or --set

    def source_of(self, name: str) -> str:
        """Where a field that was asked for stands: the option, --set, or the run file with its line."""
        return self.places.get(name, option_of(name))
