from __future__ import annotations

import json
from dataclasses import replace

import pytest
from transformers import LlamaConfig, MistralConfig, Qwen2Config

from apr.arch.config import RopeScaling
from apr.arch.errors import ArchitectureUnsupported, ConfigFieldMissing, ConfigValueBad, FeatureUnsupported
from apr.arch.presets import PRESETS
from apr.convert.errors import ConfigKeyUnjudged
from apr.convert.hf_config import read_config

LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def read(values, tied=True):
    return read_config(values, tied=tied, source="config.json")


def without(values, key):
    return {name: value for name, value in values.items() if name != key}


def by_transformers(config):
    """What transformers itself writes for a config of ours."""
    kind = {"llama": LlamaConfig, "qwen2": Qwen2Config}[config.family]
    spelled = kind(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        max_position_embeddings=config.max_position_embeddings,
        rms_norm_eps=config.rms_norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        tie_word_embeddings=config.tie_word_embeddings,
        architectures=[{"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}[config.family]],
    )
    return json.loads(spelled.to_json_string())


@pytest.mark.parametrize("name", ["smollm2-135m", "qwen2-0.5b", "qwen2-7b", "llama2-7b"])
def test_what_transformers_writes_is_read_back(name):
    preset = PRESETS[name]
    assert read(by_transformers(preset), tied=preset.tie_word_embeddings) == preset


@pytest.mark.parametrize("name", ["smollm2-135m", "qwen2-0.5b"])
def test_the_older_spelling_is_read(kit, name):
    assert read(kit.hf_config(PRESETS[name])) == PRESETS[name]


def test_mistral_is_a_llama_with_a_window():
    values = json.loads(
        MistralConfig(architectures=["MistralForCausalLM"], sliding_window=4096).to_json_string()
    )
    assert (read(values).family, read(values).sliding_window) == ("llama", 4096)
    assert read(values | {"sliding_window": None}).sliding_window is None
    with pytest.raises(ConfigFieldMissing):
        read(without(values, "sliding_window"))


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
        {"rope_theta": 500000, "rope_scaling": {"type": "llama3", **LLAMA3}},
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3}},
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 5e5,
                "partial_rotary_factor": 1.0,
                **LLAMA3,
            }
        },
        {"rope_theta": 5e5, "rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3}},
    ],
)
def test_both_spellings_of_rope_are_one(kit, rope):
    config = read(without(kit.hf_config(kit.LLAMA), "rope_theta") | rope)
    assert config == replace(
        kit.LLAMA, rope_theta=5e5, rope_scaling=RopeScaling(rope_type="llama3", **LLAMA3)
    )
    assert isinstance(config.rope_theta, float)


@pytest.mark.parametrize(
    ("rope", "error"),
    [
        ({}, ConfigFieldMissing),
        ({"rope_parameters": {"rope_type": "default"}}, ConfigFieldMissing),
        ({"rope_theta": 1e4, "rope_parameters": {"rope_type": "default", "rope_theta": 1e5}}, ConfigValueBad),
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_theta": 1e4}},
            ConfigValueBad,
        ),
        ({"rope_parameters": 1e4}, ConfigValueBad),
        ({"rope_theta": 1e4, "rope_scaling": {"type": "yarn", "factor": 4.0}}, FeatureUnsupported),
        ({"rope_theta": 1e4, "rope_scaling": {"type": "llama3", "factor": 8.0}}, ConfigValueBad),
        ({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, FeatureUnsupported),
    ],
)
def test_rope_that_is_not_clear_is_refused(kit, rope, error):
    with pytest.raises(error):
        read(without(kit.hf_config(kit.LLAMA), "rope_theta") | rope)


@pytest.mark.parametrize(
    "key",
    [
        *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
        *("num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "hidden_act", "rope_theta"),
        *("model_type", "architectures"),
    ],
)
def test_no_field_has_a_default(config, kit, key):
    with pytest.raises(ConfigFieldMissing) as caught:
        read(without(kit.hf_config(config), key))
    assert caught.value.fields == key


@pytest.mark.parametrize(
    "change",
    [
        {"attention_bias": True},
        {"mlp_bias": True},
        {"attention_dropout": 0.1},
        {"rope_interleaved": True},
        {"is_encoder_decoder": True},
        {"partial_rotary_factor": 0.5},
        {"hidden_act": "gelu"},
        {"layer_types": ["full_attention", "sliding_attention"]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_the_decoder_does_not_compute_is_refused(kit, change):
    with pytest.raises(FeatureUnsupported) as caught:
        read(kit.hf_config(kit.LLAMA) | change)
    assert caught.value.field == next(iter(change))


@pytest.mark.parametrize("key", ["logit_scale", "quantization_config", "auto_map", "final_logit_softcapping"])
def test_a_key_that_nobody_judged_is_refused(config, kit, key):
    with pytest.raises(ConfigKeyUnjudged) as caught:
        read(kit.hf_config(config) | {key: {"x": 1}})
    assert caught.value.key == key


def test_keys_that_change_nothing_are_let_by(kit):
    known = {
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "bos_token_id": 1,
        "transformers_version": "4.42.3",
    }
    known |= {"attention_bias": False, "attention_dropout": 0.0, "mlp_bias": False, "pretraining_tp": 1}
    known |= {"is_llama_config": True, "rope_interleaved": False, "initializer_range": 0.04}
    assert read(kit.hf_config(kit.LLAMA) | known) == kit.LLAMA


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"sliding_window": 4096, "use_sliding_window": False, "max_window_layers": 28}, None),
        ({"sliding_window": None}, None),
        ({"sliding_window": 4096}, ConfigFieldMissing),
        ({"sliding_window": 4096, "use_sliding_window": True}, FeatureUnsupported),
    ],
)
def test_the_window_of_qwen2_is_used_only_when_it_is_on(kit, change, outcome):
    values = kit.hf_config(kit.QWEN) | change
    if outcome is None:
        assert read(values).sliding_window is None
    else:
        with pytest.raises(outcome):
            read(values)


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "bert", "architectures": ["BertModel"]},
        {"model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"]},
        {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]},
        {"architectures": ["LlamaForSequenceClassification"]},
        {"architectures": ["LlamaModel"]},
        {"architectures": ["Qwen2ForCausalLM"]},
        {"architectures": ["LlamaForCausalLM", "LlamaModel"]},
        {"model_type": ["llama"]},
    ],
)
def test_other_architectures_are_refused(kit, change):
    with pytest.raises(ArchitectureUnsupported):
        read(kit.hf_config(kit.LLAMA) | change)


def test_head_length_is_the_quotient_only_where_none_is_given(kit):
    assert read(kit.hf_config(kit.LLAMA) | {"head_dim": 32}).head_dim == 32
    assert read(kit.hf_config(kit.LLAMA)).head_dim == 64
    with pytest.raises(ConfigValueBad):
        read(kit.hf_config(kit.LLAMA) | {"num_attention_heads": 3, "num_key_value_heads": 3})
