"""Counts that were published, exactly."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apr.arch.config import TransformerConfig
from apr.arch.counts import parameter_count, training_flops_per_token
from apr.arch.errors import ConfigFieldMissing, PresetUnknown
from apr.arch.inventory import inventory
from apr.arch.presets import PRESETS, find_config
from apr.base.errors import BadJson

# hidden, heads, kv, ffn, layers, vocab, positions, eps, theta, bias, tied
TABLE = {
    "qwen2-0.5b": (896, 14, 2, 4864, 24, 151936, 32768, 1e-6, 1e6, True, True),
    "qwen2-1.5b": (1536, 12, 2, 8960, 28, 151936, 32768, 1e-6, 1e6, True, True),
    "qwen2-7b": (3584, 28, 4, 18944, 28, 152064, 32768, 1e-6, 1e6, True, False),
    "llama-370m": (1024, 16, 4, 2816, 24, 50257, 4096, 1e-5, 1e4, False, True),
    "llama2-7b": (4096, 32, 32, 11008, 32, 32000, 4096, 1e-5, 1e4, False, False),
    "llama2-13b": (5120, 40, 40, 13824, 40, 32000, 4096, 1e-5, 1e4, False, False),
    "mistral-7b": (4096, 32, 8, 14336, 32, 32000, 32768, 1e-5, 1e4, False, False),
    "smollm2-135m": (576, 9, 3, 1536, 30, 49152, 8192, 1e-5, 1e5, False, True),
    "tiny": (64, 2, 2, 256, 2, 1000, 512, 1e-6, 1e4, False, False),
}


def row(config: TransformerConfig) -> tuple[object, ...]:
    return (
        config.hidden_size, config.num_attention_heads, config.num_key_value_heads, config.intermediate_size,
        config.num_hidden_layers, config.vocab_size, config.max_position_embeddings, config.rms_norm_eps,
        config.rope_theta, config.attention_bias, config.tie_word_embeddings,
    )  # fmt: skip


def test_presets_are_the_published_table() -> None:
    assert {name: row(config) for name, config in PRESETS.items()} == TABLE
    for name, config in PRESETS.items():
        assert config.family == ("qwen2" if "qwen" in name else "llama")
        assert config.head_dim * config.num_attention_heads == config.hidden_size
        assert (config.rope_scaling, config.sliding_window, config.hidden_act) == (None, None, "silu")


@pytest.mark.parametrize(
    ("preset", "tied", "parameters", "tensors"),
    [
        ("qwen2-0.5b", True, 494_032_768, 290),
        ("qwen2-0.5b", False, 630_167_424, 291),
        ("llama-370m", True, 322_045_952, 218),
        ("llama-370m", False, 373_509_120, 219),
        ("smollm2-135m", True, 134_515_008, 272),
    ],
)
def test_published_counts(preset: str, tied: bool, parameters: int, tensors: int) -> None:
    config = replace(PRESETS[preset], tie_word_embeddings=tied)
    assert parameter_count(config) == parameters
    assert len(inventory(config)) == tensors


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 4096))
def test_flops_grow_with_attention_only(seq_length: int) -> None:
    config = PRESETS["qwen2-0.5b"]
    per_position = 6 * 24 * 14 * 64
    assert training_flops_per_token(config, seq_length) == 6 * 494_032_768 + per_position * seq_length


def test_an_untied_embedding_multiplies_nothing() -> None:
    tied = PRESETS["qwen2-0.5b"]
    untied = replace(tied, tie_word_embeddings=False)
    assert training_flops_per_token(tied, 128) == training_flops_per_token(untied, 128)


def test_a_config_is_found_by_name_or_file(tmp_path: Path) -> None:
    path = tmp_path / "arch.json"
    path.write_text(json.dumps(PRESETS["smollm2-135m"].to_dict()))
    assert find_config(str(path)) == find_config("smollm2-135m") == PRESETS["smollm2-135m"]
    with pytest.raises(PresetUnknown):
        find_config(str(tmp_path / "nowhere"))
    path.write_text("{}")
    with pytest.raises(ConfigFieldMissing):
        find_config(str(path))
    path.write_text("[")
    with pytest.raises(BadJson):
        find_config(str(path))
