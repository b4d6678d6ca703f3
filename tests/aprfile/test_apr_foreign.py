"""Files of other programs: a config from their keys and tensors, nothing filled in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apr.aprfile import errors
from apr.aprfile.metadata import model_tensors, read_facts
from apr.aprfile.reader import AprFile, open_apr
from apr.arch.config import RopeScaling, TransformerConfig
from apr.arch.errors import ArchitectureUnsupported, ConfigFieldMissing, ConfigValueBad
from apr.arch.inventory import EMBEDDING, HEAD, cover, inventory
from apr.base.errors import AprError

KEYS = {
    "architecture": "llama",
    "hidden_size": 4,
    "num_layers": 2,
    "num_heads": 2,
    "num_kv_heads": 1,
    "vocab_size": 6,
    "intermediate_size": 8,
    "max_position_embeddings": 16,
    "rope_theta": 10000.0,
    "rope_type": 0,
    "rms_norm_eps": 1e-6,
    "head_dim": 2,
}
QWEN = {"family": "qwen2", "attention_bias": True}
Foreign = Callable[..., AprFile]


@pytest.fixture
def foreign(craft: Callable[..., Path], tiny_config: TransformerConfig) -> Foreign:
    """A factory of open foreign files: keys to change (None removes), extra tensors by name, config of the tensors."""

    def make(keys: Any = None, tensors: Any = None, **changes: Any) -> AprFile:
        metadata = {key: value for key, value in {**KEYS, **(keys or {})}.items() if value != "absent"}
        stored = {
            spec.name: {
                "name": spec.name,
                "values": tuple(np.arange(spec.num_elements) / 4),
                "shape": spec.shape,
            }
            for spec in inventory(replace(tiny_config, **changes))
        }
        for name, tensor in (tensors or {}).items():
            stored[name] = {"name": name, **tensor}
        return open_apr(craft([stored[name] for name in sorted(stored)], metadata))

    return make


def test_a_foreign_config_is_the_config(foreign: Foreign, tiny_config: TransformerConfig) -> None:
    facts = read_facts(foreign())
    assert facts.config == tiny_config
    assert facts.tie == {"tied": True, "rule": "the file stores no head"}
    assert (facts.tokenizer_json, facts.reference, facts.sources) == (None, None, ())


@pytest.mark.parametrize(
    "stamps",
    [
        {"architecture": "qwen2"},
        {"architecture": "Qwen2ForCausalLM"},
        {"architecture": "Auto", "hf_model_type": "qwen2"},
        {"architecture": None, "hf_architecture": "Qwen2ForCausalLM"},
        {"architecture": "qwen2", "hf_architecture": "Qwen2ForCausalLM", "hf_model_type": "qwen2"},
    ],
)
def test_a_family_is_known_by_any_of_its_stamps(
    foreign: Foreign, tiny_config: TransformerConfig, stamps: dict[str, Any]
) -> None:
    assert read_facts(foreign(stamps, **QWEN)).config == replace(tiny_config, **QWEN)


@pytest.mark.parametrize("key", [key for key in KEYS if key not in ("rope_type", "head_dim")])
@pytest.mark.parametrize("value", ["absent", None])
def test_a_missing_field_is_never_filled_in(foreign: Foreign, key: str, value: Any) -> None:
    with pytest.raises(ConfigFieldMissing) as caught:
        read_facts(foreign({key: value}))
    assert caught.value.fields == key


def test_all_missing_fields_are_named(foreign: Foreign) -> None:
    with pytest.raises(ConfigFieldMissing) as caught:
        read_facts(foreign({"rope_theta": None, "rms_norm_eps": None, "max_position_embeddings": None}))
    assert set(caught.value.fields.split(", ")) == {"rope_theta", "rms_norm_eps", "max_position_embeddings"}


def test_the_width_of_a_head_is_read_from_the_tensors(foreign: Foreign) -> None:
    assert read_facts(foreign({"head_dim": None})).config.head_dim == 2


def test_a_head_width_that_the_tensors_do_not_give(foreign: Foreign) -> None:
    with pytest.raises(ConfigFieldMissing) as caught:
        read_facts(foreign({"head_dim": None, "num_heads": 3}))
    assert caught.value.fields == "head_dim"


@pytest.mark.parametrize(
    ("key", "alias"),
    [
        ("hidden_size", "n_embd"),
        ("num_layers", "num_hidden_layers"),
        ("num_heads", "n_head"),
        ("num_kv_heads", "num_key_value_heads"),
        ("vocab_size", "n_vocab"),
        ("intermediate_size", "ffn_dim"),
        ("max_position_embeddings", "context_length"),
        ("rms_norm_eps", "layer_norm_eps"),
    ],
)
def test_other_spellings_are_read(
    foreign: Foreign, tiny_config: TransformerConfig, key: str, alias: str
) -> None:
    assert read_facts(foreign({key: None, alias: KEYS[key]})).config == tiny_config
    with pytest.raises(errors.MetadataContradiction) as caught:
        read_facts(foreign({alias: 99}))
    assert caught.value.fields == f"{key}, {alias}"


def test_a_number_rounded_to_fp32_is_read_as_it_was_meant(foreign: Foreign) -> None:
    keys = {"rms_norm_eps": float(np.float32(1e-6)), "rope_theta": float(np.float32(12345.678))}
    config = read_facts(foreign(keys)).config
    assert (config.rms_norm_eps, config.rope_theta) == (1e-6, 12345.678)


@pytest.mark.parametrize("value", [1e300, 3.4028234663852886e38, 0.1])
def test_a_number_beyond_fp32_stays_as_it_is(foreign: Foreign, value: float) -> None:
    assert read_facts(foreign({"rope_theta": value})).config.rope_theta == pytest.approx(value)


@pytest.mark.parametrize(
    ("stamps", "named"),
    [
        ({"architecture": "bert"}, "bert"),
        ({"architecture": "BertModel"}, "BertModel"),
        ({"architecture": "t5"}, "t5"),
        ({"architecture": "gpt2"}, "gpt2"),
        ({"architecture": "qwen3"}, "qwen3"),
        ({"architecture": "gemma"}, "gemma"),
        ({"architecture": "llama", "hf_architecture": "LlamaForSequenceClassification"}, "LlamaForSequence"),
        ({"architecture": None, "hf_model_type": "phi"}, "phi"),
        ({"architecture": 7}, "7"),
    ],
)
def test_other_architectures_are_refused_by_name(
    foreign: Foreign, stamps: dict[str, Any], named: str
) -> None:
    with pytest.raises(ArchitectureUnsupported) as caught:
        read_facts(foreign(stamps))
    assert named in caught.value.architecture


@pytest.mark.parametrize(
    "name",
    [
        "encoder.layer.0.output.dense.weight",
        "embeddings.word_embeddings.weight",
        "transformer.h.0.ln_1.weight",
    ],
)
def test_an_encoder_is_refused_whatever_its_stamp(foreign: Foreign, name: str) -> None:
    with pytest.raises(ArchitectureUnsupported) as caught:
        read_facts(foreign(tensors={name: {}}))
    assert name in caught.value.architecture


def test_gguf_names_are_refused(foreign: Foreign) -> None:
    with pytest.raises(errors.TensorNamesForeign) as caught:
        read_facts(foreign(tensors={"blk.0.attn_q.weight": {}}))
    assert caught.value.tensor == "blk.0.attn_q.weight"


def test_weights_that_lie_transposed_are_refused(foreign: Foreign) -> None:
    with pytest.raises(errors.ProducerUnsupported):
        read_facts(foreign({"format": "entrenar-checkpoint"}))


def test_stamps_of_two_families_are_refused(foreign: Foreign) -> None:
    with pytest.raises(errors.MetadataContradiction) as caught:
        read_facts(foreign({"hf_architecture": "Qwen2ForCausalLM"}))
    assert caught.value.fields == "architecture, hf_architecture"


@pytest.mark.parametrize(("stamp", "changes"), [("LlamaForCausalLM", QWEN), ("qwen2", {})])
def test_a_stamp_that_the_biases_belie_is_refused(
    foreign: Foreign, stamp: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(errors.ArchContradiction) as caught:
        read_facts(foreign({"architecture": stamp}, **changes))
    assert "attention_bias" in caught.value.fields


def test_sizes_that_the_tensors_belie_are_refused(foreign: Foreign) -> None:
    with pytest.raises(errors.ArchContradiction) as caught:
        read_facts(foreign({"hidden_size": 8, "intermediate_size": 16}))
    assert caught.value.fields == "hidden_size, intermediate_size"


@pytest.mark.parametrize(("key", "value"), [("hidden_size", "4"), ("hidden_size", 4.0), ("rms_norm_eps", [])])
def test_a_value_of_another_kind_is_refused(foreign: Foreign, key: str, value: Any) -> None:
    with pytest.raises(ConfigValueBad) as caught:
        read_facts(foreign({key: value}))
    assert caught.value.field == key


EMBEDDED = tuple(np.arange(24) / 4)
COPY = {"values": EMBEDDED, "shape": (6, 4)}
OTHER = {"values": (0.5, *EMBEDDED[1:]), "shape": (6, 4)}
BF16_COPY = {
    "data": (np.array(EMBEDDED, dtype="<f4").view("<u4") >> 16).astype("<u2").tobytes(),
    "shape": (6, 4),
    "code": 30,
}
EMPTY = {"data": b"", "shape": (6, 4)}


@pytest.mark.parametrize(
    ("head", "keys", "tied"),
    [
        (None, {"tied_embeddings": True}, True),
        (EMPTY, {"tied_embeddings": True}, True),
        (EMPTY, {}, True),
        (COPY, {"tied_embeddings": True}, True),
        (COPY, {}, True),
        (BF16_COPY, {}, True),
        (OTHER, {}, False),
        (OTHER, {"tied_embeddings": False}, False),
    ],
)
def test_the_tie_is_read_from_the_tensors(
    foreign: Foreign, head: Any, keys: dict[str, Any], tied: bool
) -> None:
    file = foreign(keys, tensors={HEAD: head} if head else {})
    facts = read_facts(file)
    assert facts.config.tie_word_embeddings is tied
    assert facts.tie is not None
    assert facts.tie["tied"] is tied
    assert (HEAD in model_tensors(file)) is not tied
    assert cover(inventory(facts.config), model_tensors(file)).is_exact


@pytest.mark.parametrize(
    ("head", "keys"),
    [
        (OTHER, {"tied_embeddings": True}),
        (OTHER, {"tie_word_embeddings": True}),
        (EMPTY, {"tied_embeddings": False}),
        (None, {"tie_word_embeddings": False}),
    ],
)
def test_a_tie_that_the_tensors_belie_is_refused(foreign: Foreign, head: Any, keys: dict[str, Any]) -> None:
    with pytest.raises(errors.MetadataContradiction) as caught:
        read_facts(foreign(keys, tensors={HEAD: head} if head else {}))
    assert next(iter(keys)) in caught.value.fields


def test_mistral_must_say_its_window(foreign: Foreign, tiny_config: TransformerConfig) -> None:
    with pytest.raises(ConfigFieldMissing) as caught:
        read_facts(foreign({"architecture": "mistral"}))
    assert caught.value.fields == "sliding_window"
    config = read_facts(foreign({"architecture": "mistral", "sliding_window": 8})).config
    assert config == replace(tiny_config, sliding_window=8)


def test_a_long_llama_3_must_say_its_scaling(foreign: Foreign) -> None:
    long = {"rope_theta": 500000.0, "max_position_embeddings": 131072}
    with pytest.raises(ConfigFieldMissing) as caught:
        read_facts(foreign(long))
    assert caught.value.fields == "rope_scaling"
    scaling = {"rope_type": "linear", "factor": 8.0}
    config = read_facts(foreign({**long, "rope_scaling": scaling})).config
    assert config.rope_scaling == RopeScaling(rope_type="linear", factor=8.0)
    assert read_facts(foreign({**long, "max_position_embeddings": 8192})).config.rope_scaling is None


def test_a_window_that_is_switched_off_is_none(foreign: Foreign) -> None:
    keys = {"architecture": "qwen2", "sliding_window": 32768, "use_sliding_window": False}
    assert read_facts(foreign(keys, **QWEN)).config.sliding_window is None


@pytest.mark.parametrize(
    "junk", [{"rope_scaling": 3}, {"sliding_window": "x"}, {"num_heads": True}, {"num_heads": 0}]
)
def test_junk_in_a_foreign_key_is_an_error_of_ours(foreign: Foreign, junk: dict[str, Any]) -> None:
    with pytest.raises(AprError):
        read_facts(foreign(junk))


def test_two_dimensions_of_an_embedding_are_wanted(foreign: Foreign) -> None:
    file = foreign(tensors={EMBEDDING: {"values": (1.0,), "shape": ()}})
    facts = read_facts(file)
    assert cover(inventory(facts.config), model_tensors(file)).misshapen
