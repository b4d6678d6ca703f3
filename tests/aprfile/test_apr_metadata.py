"""What a file says about its model: written, read back, and refused where it cannot be true."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apr.aprfile import errors
from apr.aprfile.metadata import check_against_tensors, model_metadata, model_tensors, read_facts
from apr.aprfile.reader import open_apr
from apr.aprfile.writer import write_apr
from apr.arch.config import RopeScaling, TransformerConfig
from apr.arch.counts import parameter_count
from apr.arch.errors import ArchitectureUnsupported, ConfigFieldMissing, ConfigFieldUnknown, ConfigValueBad
from apr.arch.inventory import EMBEDDING, HEAD, cover, inventory

QWEN = {"family": "qwen2", "attention_bias": True}
SCALING = RopeScaling(rope_type="linear", factor=2.0)


def _shapes(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    return {spec.name: spec.shape for spec in inventory(config)}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": False},
        QWEN,
        {"rope_scaling": SCALING, "sliding_window": 8, "rope_theta": 12345.678},
    ],
)
def test_facts_come_back(
    tmp_path: Path, tiny_config: TransformerConfig, write_tiny: Any, make_facts: Any, changes: dict[str, Any]
) -> None:
    config = replace(tiny_config, **changes)
    write_tiny(tmp_path / "x.apr", config, lineage={"step": 3}, reference={"loss": 1.5})
    with open_apr(tmp_path / "x.apr") as file:
        assert read_facts(file) == make_facts(config, lineage={"step": 3}, reference={"loss": 1.5})
        assert cover(inventory(config), model_tensors(file)).is_exact


def test_what_is_not_known_stays_unsaid(
    tmp_path: Path, tiny_config: TransformerConfig, write_tiny: Any
) -> None:
    nothing = {"tokenizer_json": None, "tokenizer": None, "sources": (), "tie": None, "producer": None}
    write_tiny(tmp_path / "x.apr", tiny_config, **nothing)
    with open_apr(tmp_path / "x.apr") as file:
        facts = read_facts(file)
        assert {field: getattr(facts, field) for field in nothing} == nothing
        assert not [key for key in file.metadata if key.startswith("tokenizer.")]


def test_other_tools_find_their_keys(tiny_config: TransformerConfig, make_facts: Any) -> None:
    metadata = model_metadata(make_facts(tiny_config), name="tiny", license="Apache-2.0")
    expected = {
        "model_type": "llama",
        "name": "tiny",
        "license": "Apache-2.0",
        "data_source": None,
        "data_license": None,
        "architecture": "llama",
        "hf_architecture": "LlamaForCausalLM",
        "hf_model_type": "llama",
        "hidden_size": 4,
        "num_layers": 2,
        "num_heads": 2,
        "num_kv_heads": 1,
        "vocab_size": 6,
        "intermediate_size": 8,
        "max_position_embeddings": 16,
        "rope_theta": 1e4,
        "rope_type": 2,
        "rms_norm_eps": 1e-6,
        "head_dim": 2,
        "param_count": parameter_count(tiny_config),
        "tied_embeddings": True,
        "tokenizer.vocabulary": ["a", "b", "ab", "c", "<|endoftext|>", "<unk>"],
        "tokenizer.merges": ["a b"],
        "tokenizer.eos_token_id": 4,
        "tokenizer.vocab_size": 6,
        "tokenizer.model_type": "BPE",
    }
    assert {key: metadata[key] for key in expected} == expected
    assert "tokenizer.bos_token_id" not in metadata
    # A key beside its alias makes a reader of the field lose everything.
    assert not {"num_hidden_layers", "num_attention_heads", "num_key_value_heads"} & set(metadata)


def test_an_untied_model_does_not_say_tied(tiny_config: TransformerConfig, make_facts: Any) -> None:
    assert "tied_embeddings" not in model_metadata(
        make_facts(replace(tiny_config, tie_word_embeddings=False))
    )


@pytest.mark.parametrize(
    ("tokenizer", "vocabulary", "merges", "scores"),
    [
        ({"model": {"type": "Unigram", "vocab": [["x", -1.0], ["y", -2.5]]}}, ["x", "y"], None, [-1.0, -2.5]),
        (
            {"model": {"vocab": {"y": 1, "x": 0}, "merges": ["x y"]}, "added_tokens": None},
            ["x", "y"],
            ["x y"],
            None,
        ),
        ({"model": {"type": "WordLevel", "vocab": {"y": 2}}}, ["<unk>", "<unk>", "y"], None, None),
    ],
)
def test_vocabularies_of_other_kinds(
    tiny_config: TransformerConfig, make_facts: Any, tokenizer: Any, vocabulary: Any, merges: Any, scores: Any
) -> None:
    metadata = model_metadata(make_facts(tiny_config, tokenizer_json=json.dumps(tokenizer)))
    assert metadata["tokenizer.vocabulary"] == vocabulary + ["<unk>"] * (6 - len(vocabulary))
    assert metadata.get("tokenizer.merges") == merges
    assert metadata.get("tokenizer.scores") == scores


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        "{}",
        '{"model": {}}',
        '{"model": {"vocab": {"a": 6}}}',
        '{"model": {"vocab": {"a": -1}}}',
        '{"model": {"vocab": {"a": "x"}}}',
        '{"model": {"vocab": [[]]}}',
        '{"model": {"vocab": {"a": 0}, "merges": [["a"]]}}',
        '{"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 1}]}',
    ],
)
def test_a_tokenizer_that_is_none_is_not_written(
    tiny_config: TransformerConfig, make_facts: Any, text: str
) -> None:
    with pytest.raises(errors.FactsBad):
        model_metadata(make_facts(tiny_config, tokenizer_json=text))


@pytest.fixture
def rewrite(
    tmp_path: Path, tiny_config: TransformerConfig, make_facts: Any, make_sources: Any
) -> Callable[..., Path]:
    """A factory of whole files whose metadata the test changes before it is written."""

    def make(change: Callable[[dict[str, Any]], Any]) -> Path:
        metadata = model_metadata(make_facts(tiny_config))
        change(metadata)
        path = tmp_path / "changed.apr"
        write_apr(path, metadata, make_sources(tiny_config), {HEAD: EMBEDDING})
        return path

    return make


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("architecture", "qwen2"),
        ("hf_architecture", "Qwen2ForCausalLM"),
        ("hf_model_type", "mistral"),
        ("hidden_size", 5),
        ("hidden_dim", 5),
        ("num_layers", 3),
        ("num_heads", 4),
        ("num_kv_heads", 2),
        ("vocab_size", 7),
        ("intermediate_size", 9),
        ("max_position_embeddings", 17),
        ("rope_theta", 1e6),
        ("rope_theta", "10000"),
        ("rope_type", 0),
        ("rms_norm_eps", 1e-5),
        ("norm_eps", 1e-5),
        ("head_dim", 4),
        ("param_count", 1),
        ("tied_embeddings", False),
    ],
)
def test_a_typed_key_that_contradicts_is_refused(rewrite: Callable[..., Path], key: str, value: Any) -> None:
    path = rewrite(lambda metadata: metadata.update({key: value}))
    with open_apr(path) as file, pytest.raises(errors.MetadataContradiction) as caught:
        read_facts(file)
    assert caught.value.fields == key
    assert str(value) in caught.value.differences


def test_every_contradiction_is_named_at_once(rewrite: Callable[..., Path]) -> None:
    path = rewrite(lambda metadata: metadata.update(hidden_size=5, num_layers=3))
    with open_apr(path) as file, pytest.raises(errors.MetadataContradiction) as caught:
        read_facts(file)
    assert caught.value.fields == "hidden_size, num_layers"


@pytest.mark.parametrize(("key", "value"), [("rms_norm_eps", 9.999999974752427e-07), ("hidden_size", None)])
def test_a_rounded_or_empty_key_is_no_contradiction(
    rewrite: Callable[..., Path], key: str, value: Any
) -> None:
    with open_apr(rewrite(lambda metadata: metadata.update({key: value}))) as file:
        read_facts(file)


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("config", None, errors.FactsBad),
        ("config", [], errors.FactsBad),
        ("config", {}, ConfigFieldMissing),
        ("unheard_of", 1, errors.FactsBad),
        ("tie", 1, errors.FactsBad),
        ("reference", [], errors.FactsBad),
        ("sources", {}, errors.FactsBad),
        ("sources", [1], errors.FactsBad),
        ("tokenizer_json", 1, errors.FactsBad),
        ("tokenizer_json", None, errors.FactsBad),
        ("tokenizer_json", "{}", errors.TokenizerDigestWrong),
        ("tokenizer_json_sha256", "0" * 64, errors.TokenizerDigestWrong),
        ("tokenizer_json_sha256", None, errors.TokenizerDigestWrong),
    ],
)
def test_a_damaged_description_is_refused(
    rewrite: Callable[..., Path], field: str, value: Any, error: type[Exception]
) -> None:
    path = rewrite(lambda metadata: metadata["apr_pretrain"].update({field: value}))
    with open_apr(path) as file, pytest.raises(error):
        read_facts(file)


@pytest.mark.parametrize("field", ["rope_theta", "attention_bias", "rope_scaling", "tie_word_embeddings"])
def test_a_config_without_a_field_is_refused(rewrite: Callable[..., Path], field: str) -> None:
    path = rewrite(lambda metadata: metadata["apr_pretrain"]["config"].pop(field))
    with open_apr(path) as file, pytest.raises(ConfigFieldMissing) as caught:
        read_facts(file)
    assert caught.value.fields == field


def test_a_config_with_a_stray_field_is_refused(rewrite: Callable[..., Path]) -> None:
    path = rewrite(lambda metadata: metadata["apr_pretrain"]["config"].update(rope_base=1.0))
    with open_apr(path) as file, pytest.raises(ConfigFieldUnknown):
        read_facts(file)


def test_the_tokenizer_digest_is_of_its_bytes(tiny_apr: Path) -> None:
    with open_apr(tiny_apr) as file:
        own = file.metadata["apr_pretrain"]
        assert own["tokenizer_json_sha256"] == hashlib.sha256(own["tokenizer_json"].encode()).hexdigest()


EVIDENCE = [
    ({"vocab_size": 7}, "vocab_size", ("7", "6")),
    ({"hidden_size": 6}, "hidden_size", ("6", "4")),
    ({"intermediate_size": 9}, "intermediate_size", ("9", "8")),
    ({"num_hidden_layers": 3}, "num_hidden_layers", ("3", "2")),
    ({"num_hidden_layers": 1}, "num_hidden_layers", ("1", "2")),
    ({"num_attention_heads": 4}, "num_attention_heads * head_dim", ("8", "4")),
    ({"num_key_value_heads": 2}, "num_key_value_heads * head_dim", ("4", "2")),
    ({"attention_bias": True}, "attention_bias", ("True", "False")),
    ({"tie_word_embeddings": False}, "tie_word_embeddings", ("False", "True")),
]


@pytest.mark.parametrize(("claim", "field", "values"), EVIDENCE)
def test_a_config_that_the_tensors_belie(
    tiny_config: TransformerConfig, claim: dict[str, Any], field: str, values: tuple[str, str]
) -> None:
    with pytest.raises(errors.ArchContradiction) as caught:
        check_against_tensors(replace(tiny_config, **claim), _shapes(tiny_config), "x")
    assert caught.value.fields == field
    assert all(value in caught.value.differences for value in values)


def test_every_field_that_the_tensors_belie_is_in_one_error(tiny_config: TransformerConfig) -> None:
    claim = replace(tiny_config, **{key: value for claim, *_ in EVIDENCE[:3] for key, value in claim.items()})
    with pytest.raises(errors.ArchContradiction) as caught:
        check_against_tensors(claim, _shapes(tiny_config), "x")
    assert caught.value.fields == "vocab_size, hidden_size, intermediate_size"


@pytest.mark.parametrize("changes", [{}, QWEN, {"tie_word_embeddings": False}])
def test_a_config_that_the_tensors_bear_out(tiny_config: TransformerConfig, changes: dict[str, Any]) -> None:
    config = replace(tiny_config, **changes)
    check_against_tensors(config, _shapes(config), "x")


def test_one_odd_tensor_is_left_to_the_inventory(tiny_config: TransformerConfig) -> None:
    shapes = _shapes(tiny_config) | {"model.layers.1.mlp.gate_proj.weight": (4, 8)}
    check_against_tensors(tiny_config, shapes, "x")
    assert not cover(inventory(tiny_config), shapes).is_exact


def test_read_facts_holds_the_config_against_the_tensors(
    tmp_path: Path, tiny_config: TransformerConfig, make_facts: Any, make_sources: Any
) -> None:
    metadata = model_metadata(make_facts(replace(tiny_config, num_hidden_layers=3)))
    write_apr(tmp_path / "x.apr", metadata, make_sources(tiny_config), {HEAD: EMBEDDING})
    with open_apr(tmp_path / "x.apr") as file, pytest.raises(errors.ArchContradiction) as caught:
        read_facts(file)
    assert caught.value.fields == "num_hidden_layers"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("encoder.layer.0.attention.self.query.weight", ArchitectureUnsupported),
        ("bert.embeddings.word_embeddings.weight", ArchitectureUnsupported),
        ("model.layers.0.self_attn.q_norm.weight", ArchitectureUnsupported),
        ("model.layers.0.mlp.experts.0.up_proj.weight", ArchitectureUnsupported),
        ("blk.0.attn_q.weight", errors.TensorNamesForeign),
    ],
)
def test_names_betray_another_architecture_under_our_own_stamp(
    tmp_path: Path, tiny_config: TransformerConfig, make_facts: Any, make_sources: Any, name: str, error: Any
) -> None:
    sources = make_sources(tiny_config)
    odd = replace(sources[-1], name=name)
    write_apr(tmp_path / "x.apr", model_metadata(make_facts(tiny_config)), [*sources, odd], {HEAD: EMBEDDING})
    with open_apr(tmp_path / "x.apr") as file, pytest.raises(error):
        read_facts(file)


def test_training_state_is_not_the_model(
    tmp_path: Path, tiny_config: TransformerConfig, make_facts: Any, make_sources: Any
) -> None:
    sources = make_sources(tiny_config)
    extra = replace(sources[-1], name="__training__.adam.m")
    write_apr(
        tmp_path / "x.apr", model_metadata(make_facts(tiny_config)), [*sources, extra], {HEAD: EMBEDDING}
    )
    with open_apr(tmp_path / "x.apr") as file:
        assert "__training__.adam.m" in file.entries
        assert model_tensors(file) == _shapes(tiny_config)
        assert np.isfinite(file.as_f32("__training__.adam.m")).all()


def test_a_config_out_of_range_is_refused(rewrite: Callable[..., Path]) -> None:
    def change(metadata: dict[str, Any]) -> None:
        metadata["apr_pretrain"]["config"]["num_hidden_layers"] = 0

    with open_apr(rewrite(change)) as file, pytest.raises(ConfigValueBad):
        read_facts(file)
