"""The module's parts are read back, and its rotary angles computed a second time."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from apr.arch.config import RopeScaling, TransformerConfig
from apr.model.adapters import built_facts, rope_at
from apr.model.decoder import Decoder
from apr.model.initialise import random_decoder
from apr.stepzero.built import (
    ROPE_POSITIONS,
    ROPE_TOLERANCE,
    built_gate,
    placement_gate,
    rope_reference,
)
from apr.stepzero.gate import GateResult
from apr.train.certify_weights import module_judges
from apr.train.device import Compute
from tiny import CONFIG, QWEN_LIKE

pytestmark = pytest.mark.usefixtures("one_thread")
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
SCALINGS: dict[str, dict[str, Any] | None] = {
    "default": None,
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama3": LLAMA3,
    "llama3 of a short context": {**LLAMA3, "factor": 32.0, "original_max_position_embeddings": 512},
}


def by_transformers(
    positions: tuple[int, ...], head_dim: int, theta: float, scaling: dict[str, Any] | None
) -> np.ndarray:
    """Cosines and sines [2, P, H/2] of transformers' own module."""
    parameters = {"rope_type": "default", "rope_theta": theta, **(scaling or {})}
    config = LlamaConfig(
        hidden_size=4 * head_dim,
        num_attention_heads=4,
        head_dim=head_dim,
        max_position_embeddings=131072,
        rope_parameters=parameters,
    )
    module = LlamaRotaryEmbedding(config)
    cos, sin = module(torch.zeros(1, 1, dtype=torch.float32), torch.tensor([positions]))
    return np.stack([table[0, :, : head_dim // 2].double().numpy() for table in (cos, sin)])


@pytest.mark.parametrize("name", SCALINGS)
@pytest.mark.parametrize(("head_dim", "theta"), [(64, 1e4), (128, 5e5), (16, 1e6)])
def test_the_reference_is_transformers(name: str, head_dim: int, theta: float) -> None:
    ours = rope_reference(ROPE_POSITIONS, head_dim, theta, SCALINGS[name])
    theirs = by_transformers(ROPE_POSITIONS, head_dim, theta, SCALINGS[name])
    assert ours.shape == (2, len(ROPE_POSITIONS), head_dim // 2)
    assert np.abs(ours - theirs).max() < ROPE_TOLERANCE / 2
    if name != "default":
        plain = rope_reference(ROPE_POSITIONS, head_dim, theta, None)
        assert np.abs(ours - plain).max() > 100 * ROPE_TOLERANCE  # the scaling is seen at these positions


@given(st.integers(0, 4096), st.sampled_from([2, 4, 32, 128]), st.floats(1e3, 1e7))
def test_a_rotation_is_a_rotation(position: int, head_dim: int, theta: float) -> None:
    cos, sin = rope_reference((0, position), head_dim, theta, None)
    assert np.allclose(cos**2 + sin**2, 1.0)
    assert (cos[0] == 1.0).all()
    assert (sin[0] == 0.0).all()
    assert math.isclose(
        cos[1, 0], math.cos(position), abs_tol=1e-12
    )  # the fastest pair turns by 1 a position


# --- model.built ---------------------------------------------------------------------------------


def judge(decoder: Decoder, config: TransformerConfig | None = None) -> GateResult:
    """The gate for a decoder, asked as a run asks it; another config than it was built from may be claimed."""
    config = config or decoder.config
    positions = tuple(p for p in ROPE_POSITIONS if p < config.sequence_limit[1])
    scaling = None if config.rope_scaling is None else asdict(config.rope_scaling)
    found = built_facts(decoder)
    return built_gate(
        claims={name: getattr(config, name) for name in found},
        found=found,
        rope_expected=rope_reference(positions, config.head_dim, config.rope_theta, scaling),
        rope_found=rope_at(decoder, positions),
    )


CONFIGS = {
    "llama": CONFIG,
    "qwen": QWEN_LIKE,
    "untied": replace(CONFIG, tie_word_embeddings=False),
    "wide heads": replace(CONFIG, head_dim=32, num_key_value_heads=1),
    "linear": replace(CONFIG, rope_scaling=RopeScaling(rope_type="linear", factor=2.0)),
    "llama3": replace(CONFIG, rope_scaling=RopeScaling(**LLAMA3)),
    "short": replace(CONFIG, max_position_embeddings=20),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_family_is_built_as_it_is_configured(name: str) -> None:
    gate = judge(random_decoder(CONFIGS[name], 0))
    assert (gate.id, gate.verdict, gate.figure, gate.cause) == ("model.built", "yes", 0, "")
    assert gate.facts["rope_difference"] < ROPE_TOLERANCE
    assert set(gate.facts["found"]) == {
        *("vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads"),
        *("num_key_value_heads", "head_dim", "rms_norm_eps", "attention_bias", "tie_word_embeddings"),
    }


OTHERS: dict[str, Any] = {
    "vocab_size": 321,
    "hidden_size": 65,
    "num_hidden_layers": 3,
    "intermediate_size": 100,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-5,
    "attention_bias": True,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize("field", OTHERS)
def test_a_field_that_the_module_has_not_is_named(field: str) -> None:
    gate = judge(random_decoder(CONFIG, 0), replace(CONFIG, **{field: OTHERS[field]}))
    assert (gate.verdict, gate.figure) == ("no", 1)
    assert gate.cause.startswith(f"{field} is ")


def test_parts_that_disagree_are_all_named() -> None:
    decoder = random_decoder(CONFIG, 0)
    decoder.model.layers[1].post_attention_layernorm.eps = 1e-3
    gate = judge(decoder)
    assert gate.verdict == "no"
    assert gate.facts["found"]["rms_norm_eps"] == f"{CONFIG.rms_norm_eps} and 0.001"
    decoder = random_decoder(QWEN_LIKE, 0)
    decoder.model.layers[0].self_attn.k_proj.bias = None
    assert judge(decoder).facts["found"]["attention_bias"] == "True and False"


def test_a_copy_for_a_tied_head_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = random_decoder(CONFIG, 0)
    head = decoder.head_weight.detach().clone()
    monkeypatch.setattr(Decoder, "head_weight", property(lambda self: head))
    gate = judge(decoder)
    assert (gate.verdict, gate.facts["found"]["tie_word_embeddings"]) == ("no", False)


@pytest.mark.parametrize(
    ("changes", "claimed"),
    [
        ({"rope_theta": 1e6}, {}),
        ({"rope_scaling": RopeScaling(rope_type="linear", factor=2.0)}, {}),
        ({}, {"rope_scaling": RopeScaling(rope_type="linear", factor=2.0)}),
        ({}, {"rope_scaling": RopeScaling(**LLAMA3)}),
        ({"rope_scaling": RopeScaling(**LLAMA3)}, {"rope_scaling": RopeScaling(**LLAMA3 | {"factor": 32.0})}),
    ],
)
def test_other_rotary_angles_are_a_no(changes: dict[str, Any], claimed: dict[str, Any]) -> None:
    """Of a module built from another config than the one that it names."""
    gate = judge(random_decoder(replace(CONFIG, **changes), 0), replace(CONFIG, **claimed))
    assert (gate.verdict, gate.figure) == ("no", 1)
    assert "rotary" in gate.cause
    assert gate.facts["rope_difference"] > ROPE_TOLERANCE


@pytest.mark.parametrize("spoil", ["a position late", "nan", "another shape"])
def test_angles_that_are_no_rotation_of_these_positions_are_a_no(spoil: str) -> None:
    table = rope_reference(ROPE_POSITIONS, 16, 1e4, None)
    other = rope_reference(tuple(p + 1 for p in ROPE_POSITIONS), 16, 1e4, None)
    if spoil == "nan":
        other = table.copy()
        other[1, 3, 2] = np.nan
    elif spoil == "another shape":
        other = table[:, :-1]
    gate = built_gate(claims={}, found={}, rope_expected=table, rope_found=other)
    assert gate.verdict == "no"
    assert "rotary" in gate.cause


# --- model.placement -----------------------------------------------------------------------------


def place(**changes: Any) -> GateResult:
    given: dict[str, Any] = {"asked_device": "cuda:1", "devices": ["cuda:1"], "stored_types": ["fp32"]}
    return placement_gate(**{**given, "asked_type": "bf16", "computed": "bf16", **changes})


def test_what_was_asked_for_is_a_yes() -> None:
    gate = place()
    assert (gate.id, gate.verdict, gate.cause) == ("model.placement", "yes", "")
    assert gate.figure == gate.limit == "cuda:1, fp32 computing in bf16"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"devices": ["cpu"]}, "on cpu"),
        ({"devices": ["cpu", "cuda:1"]}, "cpu and cuda:1"),
        ({"devices": []}, "not on cuda:1"),
        ({"stored_types": ["bf16"]}, "bf16, not fp32"),
        ({"stored_types": ["bf16", "fp32"]}, "bf16 and fp32"),
        ({"computed": "fp32"}, "hidden states"),
        ({"computed": "fp16"}, "hidden states"),
    ],
)
def test_another_place_or_type_is_a_no(changes: dict[str, Any], word: str) -> None:
    gate = place(**changes)
    assert gate.verdict == "no"
    assert word in gate.cause


@pytest.mark.parametrize(
    ("dtype", "spoil", "verdict"),
    [
        (torch.float32, lambda decoder: None, "yes"),
        (torch.bfloat16, lambda decoder: None, "yes"),
        (torch.float32, lambda decoder: decoder.model.norm.double(), "no"),
        (torch.float32, lambda decoder: decoder.bfloat16(), "no"),
    ],
)
def test_a_decoder_is_asked_for_its_types(dtype: torch.dtype, spoil: Any, verdict: str) -> None:
    decoder = random_decoder(CONFIG, 0)
    spoil(decoder)
    compute = Compute(device=torch.device("cpu"), dtype=dtype, note="")
    built, placed = (judge() for judge in module_judges(decoder, compute))
    assert (built.verdict, placed.verdict) == ("yes", verdict)
