"""FALSIFY-APR-PRETRAIN-ARCH-001 and -002: presets, and the architecture of a run that names none."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from apr.arch.config import TransformerConfig
from apr.arch.counts import parameter_count
from apr.arch.inventory import inventory
from apr.arch.presets import find_config
from apr.model.initialise import initialise
from apr.train import estimate
from contracts.claims.start import kept
from contracts.scene import Scene, call, watch_allocations

# Qwen2.5-0.5B as published, field by field.
QWEN2_0_5B: dict[str, Any] = {
    "family": "qwen2",
    "vocab_size": 151936,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "rope_scaling": None,
    "hidden_act": "silu",
    "attention_bias": True,
    "tie_word_embeddings": True,
    "sliding_window": None,
}


# The architecture of a run that names none.
LLAMA_370M: dict[str, Any] = {
    "family": "llama",
    "vocab_size": 50257,
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e4,
    "rope_scaling": None,
    "hidden_act": "silu",
    "attention_bias": False,
    "tie_word_embeddings": True,
    "sliding_window": None,
}

BASELINE_VALUES = Path(__file__).parents[2] / "golden" / "llama_370m_start.json"


def differing(found: dict[str, Any], expected: dict[str, Any]) -> str:
    names = sorted({*found, *expected})
    pairs = [(name, found.get(name), expected.get(name)) for name in names]
    return ", ".join(f"{name} is {a!r}, not {b!r}" for name, a, b in pairs if (a, type(a)) != (b, type(b)))


def preset_is_the_published_config(scene: Scene) -> None:
    """ARCH-001: every field of the preset is the published one, and so are its counts."""
    config = find_config("qwen2-0.5b")
    assert not (words := differing(config.to_dict(), QWEN2_0_5B)), words
    assert parameter_count(config) == 494_032_768, f"{parameter_count(config):,} parameters"
    assert len(inventory(config)) == 290, f"{len(inventory(config))} tensors"
    untied = replace(config, tie_word_embeddings=False)
    assert (parameter_count(untied), len(inventory(untied))) == (630_167_424, 291)


def no_init_is_the_baseline(scene: Scene, shards: Path) -> None:
    """ARCH-002: a run without --init and --arch is llama-370m: its config, its size, its first weights."""
    seen: list[Any] = []
    with pytest.MonkeyPatch.context() as patch, watch_allocations() as allocated:
        patch.setattr(estimate, "Inputs", kept(estimate.Inputs, seen))
        size = ("--num-steps", 1, "--batch-size", 1, "--seq-length", 32, "--device", "cpu", "--dtype", "fp32")
        outcome = call("pretrain", "--dry-run", "--dataset", shards, *size, "--format", "json")
    assert outcome.code == 0, f"exit code {outcome.code}: {outcome.stderr[-300:]}"
    assert not allocated, "a dry run allocated a model"
    config = seen[0].config
    assert not (words := differing(config.to_dict(), LLAMA_370M)), words
    assert outcome.json["num_parameters"] == 322_045_952, f"{outcome.json['num_parameters']:,} parameters"
    golden = json.loads(BASELINE_VALUES.read_bytes())
    found = first_weights(config)
    assert found.keys() == golden.keys()
    for name, values in golden.items():
        assert found[name] == pytest.approx(values, abs=1e-6), f"{name} starts at {found[name]}, not {values}"


@dataclass
class FewTensors:
    """Some parameters of a decoder that is too large to allocate in a test: each is drawn for itself."""

    config: TransformerConfig
    tensors: dict[str, Tensor]

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        return list(self.tensors.items())


def first_weights(config: TransformerConfig) -> dict[str, list[float]]:
    """The first values of a few tensors as initialised with seed 42, with each one's spread."""
    shapes = {spec.name: spec.shape for spec in inventory(config)}
    kinds = ("self_attn.k_proj.weight", "self_attn.o_proj.weight", "input_layernorm.weight")
    few = FewTensors(
        config, {name: torch.empty(shapes[name]) for name in (f"model.layers.7.{kind}" for kind in kinds)}
    )
    initialise(few, 42)  # type: ignore[arg-type]
    return {
        name: [*value.flatten()[:4].tolist(), float(value.std(correction=0))]
        for name, value in few.tensors.items()
    }
