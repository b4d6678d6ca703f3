"""A config says every thing or is refused, by field."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from typing import Any

import pytest

from apr.arch.config import (
    RopeScaling,
    TransformerConfig,
    config_differences,
    parse_config,
    parse_rope_scaling,
)
from apr.arch.errors import (
    ArchitectureUnsupported,
    ConfigFieldMissing,
    ConfigFieldUnknown,
    ConfigValueBad,
    FeatureUnsupported,
)
from apr.arch.presets import PRESETS

GOOD = PRESETS["qwen2-0.5b"].to_dict()
NAMES = [field.name for field in fields(TransformerConfig)]
COUNTS = [
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "max_position_embeddings"),
]
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
LLAMA3_PARSED = RopeScaling(
    rope_type="llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=8192,
)
LINEAR = RopeScaling(rope_type="linear", factor=2.0)


@pytest.mark.parametrize("scaling", [None, LINEAR, LLAMA3_PARSED])
@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_config_reads_back(preset: str, scaling: RopeScaling | None) -> None:
    config = replace(PRESETS[preset], rope_scaling=scaling)
    assert parse_config(json.loads(json.dumps(config.to_dict())), "x") == config


@pytest.mark.parametrize("name", NAMES)
def test_no_field_has_a_default(name: str) -> None:
    with pytest.raises(ConfigFieldMissing) as caught:
        parse_config({key: value for key, value in GOOD.items() if key != name}, "model.apr")
    assert caught.value.facts == {"source": "model.apr", "fields": name}
    with pytest.raises(TypeError):
        TransformerConfig(**{key: value for key, value in GOOD.items() if key != name})


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("rope_thata", "rope_theta"),
        ("num_kv_heads", "num_key_value_heads"),
        ("tie_embeddings", None),
        ("x", None),
    ],
)
def test_an_unknown_field_names_the_nearest(name: str, nearest: str | None) -> None:
    with pytest.raises(ConfigFieldUnknown) as caught:
        parse_config({**GOOD, name: 1}, "x")
    assert caught.value.field == name
    assert caught.value.nearest == nearest or (nearest is None and caught.value.nearest in NAMES)


BAD: list[tuple[str, Any]] = [
    *((name, value) for name in COUNTS for value in (0, -1, True, 64.0, "64", None, 1 << 40)),
    *(
        (n, v)
        for n in ("rms_norm_eps", "rope_theta")
        for v in (0, -1.0, math.inf, math.nan, "1", True, 10**400)
    ),
    *((name, value) for name in ("attention_bias", "tie_word_embeddings") for value in (1, "true", None)),
    *(("sliding_window", value) for value in (0, -5, 4.0, True, "4")),
    ("num_key_value_heads", 3),
    ("head_dim", 63),
    ("num_hidden_layers", 1 << 20),
    ("rope_scaling", "linear"),
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=[f"{name}={value!r:.20}" for name, value in BAD])
def test_a_value_out_of_range_is_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigValueBad) as caught:
        parse_config({**GOOD, name: value}, "x")
    assert caught.value.field == name


@pytest.mark.parametrize("family", ["bert", "LLAMA", "", None, 3])
def test_another_family_is_refused(family: Any) -> None:
    with pytest.raises(ArchitectureUnsupported):
        parse_config({**GOOD, "family": family}, "x")


def test_another_activation_is_refused() -> None:
    with pytest.raises(FeatureUnsupported) as caught:
        parse_config({**GOOD, "hidden_act": "gelu"}, "x")
    assert caught.value.field == "hidden_act"


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, None),
        ({"rope_type": "default"}, None),
        ({"type": "default", "rope_theta": 1e4}, None),
        ({"rope_type": "linear", "factor": 2.0}, LINEAR),
        ({"type": "linear", "factor": 2.0}, LINEAR),
        ({"type": "linear", "rope_type": "linear", "factor": 2.0}, LINEAR),
        ({"rope_type": "linear", "factor": 2.0, "low_freq_factor": None}, LINEAR),
        (LLAMA3, LLAMA3_PARSED),
        (LINEAR, LINEAR),
    ],
)
def test_rope_scaling_is_read_in_both_spellings(value: Any, wanted: RopeScaling | None) -> None:
    assert parse_rope_scaling(value, "x") == wanted


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"rope_type": "yarn", "factor": 2.0}, FeatureUnsupported),
        ({"type": "dynamic", "factor": 2.0}, FeatureUnsupported),
        ({"factor": 2.0}, FeatureUnsupported),
        ({"type": "linear", "rope_type": "llama3", "factor": 2.0}, ConfigValueBad),
        ({"rope_type": "linear"}, ConfigValueBad),
        ({"rope_type": "linear", "factor": 2.0, "mscale": 1.0}, ConfigValueBad),
        ({"rope_type": "linear", "factor": 0}, ConfigValueBad),
        ({"rope_type": "linear", "factor": math.nan}, ConfigValueBad),
        ({"rope_type": "linear", "factor": math.inf}, ConfigValueBad),
        ({"rope_type": "linear", "factor": True}, ConfigValueBad),
        ({"rope_type": "linear", "factor": "2"}, ConfigValueBad),
        ({**LLAMA3, "low_freq_factor": 4.0}, ConfigValueBad),
        ({**LLAMA3, "original_max_position_embeddings": 8192.5}, ConfigValueBad),
        ({key: value for key, value in LLAMA3.items() if key != "low_freq_factor"}, ConfigValueBad),
        ([], ConfigValueBad),
    ],
)
def test_rope_scaling_that_is_not_computed_is_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        parse_rope_scaling(value, "x")


@pytest.mark.parametrize(
    ("window", "wanted"),
    [
        (None, ("max_position_embeddings", 32768)),
        (4096, ("sliding_window", 4096)),
        (1 << 20, ("max_position_embeddings", 32768)),
    ],
)
def test_the_longest_sequence_names_its_reason(window: int | None, wanted: tuple[str, int]) -> None:
    assert replace(PRESETS["qwen2-0.5b"], sliding_window=window).sequence_limit == wanted


def test_differences_carry_both_values() -> None:
    other = replace(PRESETS["qwen2-0.5b"], rope_theta=1e4, head_dim=32)
    assert config_differences(PRESETS["qwen2-0.5b"], other) == [
        ("head_dim", 64, 32),
        ("rope_theta", 1e6, 1e4),
    ]
    assert not config_differences(other, other)
