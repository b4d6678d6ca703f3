from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize

from apr.arch.errors import ArchitectureUnsupported, ConfigFieldMissing, ConfigValueBad, FeatureUnsupported
from apr.arch.inventory import inventory
from apr.base.errors import AprError, FileMissing
from apr.convert import gguf_file
from apr.convert.errors import ConfigKeyUnjudged, DtypeUnsupported, SourceUnreadable, TensorsDiffer
from apr.convert.gguf_source import open_gguf
from apr.convert.source import open_source


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_values_are_what_the_blocks_stand_for(config, make_gguf, kit, dtype):
    tensors = kit.random_tensors(config)
    source = open_source(str(make_gguf(config, tensors, default_dtype=dtype)))
    assert source.config == config
    assert set(source.tensors) == {spec.name for spec in inventory(config)}
    kind = GGMLQuantizationType[dtype]
    for name, values in tensors.items():
        expected = values if values.ndim == 1 else dequantize(quantize(values, kind), kind)
        loaded = source.tensors[name].load()
        assert loaded.dtype == np.float32
        assert loaded.shape == source.tensors[name].shape
        assert source.tensors[name].dtype == ("F32" if values.ndim == 1 else dtype)
        np.testing.assert_array_equal(loaded, expected, err_msg=name)


def test_only_llama_q_and_k_are_stored_interleaved(make_gguf, kit):
    tensors = kit.random_tensors(kit.QWEN)
    source = open_source(str(make_gguf(kit.QWEN, tensors)))
    name = "model.layers.1.self_attn.q_proj.weight"
    np.testing.assert_array_equal(source.tensors[name].load(), tensors[name])
    heads = kit.QWEN.num_attention_heads
    assert not np.array_equal(kit.interleave(tensors[name], heads), tensors[name])


@pytest.mark.parametrize("dtype", ["Q4_K", "Q6_K"])
def test_k_quant_rows_move_as_bytes(make_gguf, kit, dtype):
    name, other = "model.layers.0.self_attn.k_proj.weight", "model.layers.0.mlp.down_proj.weight"
    tensors = kit.random_tensors(kit.LLAMA)
    tensors[name] = kit.random_blocks(128, 256, dtype)
    tensors[other] = kit.random_blocks(256, 512, dtype, seed=1)
    source = open_source(str(make_gguf(kit.LLAMA, tensors, dtypes={name: dtype, other: dtype})))
    for each in (name, other):
        stored, blocks = source.tensors[each].raw()
        assert (stored, blocks.dtype) == (dtype, np.uint8)
        np.testing.assert_array_equal(blocks, tensors[each])
        expected = dequantize(tensors[each], GGMLQuantizationType[dtype])
        np.testing.assert_array_equal(source.tensors[each].load(), expected)


@pytest.mark.parametrize(("dtype", "numpy"), [("F32", np.float32), ("F16", np.float16), ("BF16", np.uint16)])
def test_raw_values_are_numbers_of_their_width(make_gguf, kit, dtype, numpy):
    source = open_source(str(make_gguf(kit.LLAMA, default_dtype=dtype)))
    tensor = source.tensors["model.layers.0.self_attn.q_proj.weight"]
    name, values = tensor.raw()
    assert (name, values.dtype, values.shape) == (dtype, numpy, tensor.shape)


def test_other_quantisations_have_no_raw_form(make_gguf, kit):
    source = open_source(str(make_gguf(kit.LLAMA, default_dtype="Q5_0")))
    assert source.tensors["model.layers.0.mlp.up_proj.weight"].raw is None


def test_large_matrices_are_dequantised_in_slabs_without_a_seam(make_gguf, kit):
    config = replace(kit.LLAMA, vocab_size=9000)
    tensors = kit.random_tensors(config)
    source = open_source(str(make_gguf(config, tensors, default_dtype="Q8_0")))
    kind = GGMLQuantizationType.Q8_0
    name = "model.embed_tokens.weight"
    np.testing.assert_array_equal(
        source.tensors[name].load(), dequantize(quantize(tensors[name], kind), kind)
    )


@pytest.mark.parametrize("eps", [1e-5, 1e-6])
def test_epsilon_is_the_decimal_that_was_meant(make_gguf, kit, eps):
    source = open_source(str(make_gguf(replace(kit.LLAMA, rms_norm_eps=eps))))
    assert source.config.rms_norm_eps == eps


def test_head_length_is_read_where_it_is_not_the_quotient(make_gguf, kit):
    config = replace(kit.LLAMA, head_dim=32)
    fields = {"attention.key_length": 32, "attention.value_length": 32, "rope.dimension_count": 32}
    assert open_source(str(make_gguf(config, fields=fields))).config == config


def test_linear_scaling_and_window_are_read(make_gguf, kit):
    fields = {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0, "attention.sliding_window": 64}
    config = open_source(str(make_gguf(kit.LLAMA, fields=fields))).config
    assert (config.rope_scaling.rope_type, config.rope_scaling.factor) == ("linear", 4.0)
    assert config.sliding_window == 64


@pytest.mark.parametrize(
    "key",
    [
        *("block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count"),
        *("attention.head_count_kv", "rope.freq_base", "attention.layer_norm_rms_epsilon"),
    ],
)
def test_no_field_has_a_default(config, make_gguf, key):
    with pytest.raises(ConfigFieldMissing) as caught:
        open_source(str(make_gguf(config, fields={key: None})))
    assert caught.value.fields == f"{config.family}.{key}"


@pytest.mark.parametrize(
    ("fields", "error", "field"),
    [
        ({"expert_count": 8}, FeatureUnsupported, "llama.expert_count"),
        ({"attention.causal": False}, FeatureUnsupported, "llama.attention.causal"),
        ({"rope.scaling.type": "yarn"}, FeatureUnsupported, "rope.scaling.type"),
        ({"rope.dimension_count": 32}, ConfigValueBad, "rope.dimension_count"),
        ({"rope.scaling.factor": 2.0}, ConfigValueBad, "rope.scaling.factor"),
        ({"attention.value_length": 32}, ConfigValueBad, "attention.value_length"),
        ({"vocab_size": 97}, ConfigValueBad, "vocab_size"),
        ({"attention.head_count": 3}, ConfigValueBad, "attention.head_count"),
        ({"attention.head_count": [4, 4]}, ConfigValueBad, "attention.head_count"),
        ({"attention.layer_norm_rms_epsilon": 0.0}, ConfigValueBad, "rms_norm_eps"),
        ({"block_count": "two"}, ConfigValueBad, "num_hidden_layers"),
    ],
)
def test_a_field_that_contradicts_is_named(make_gguf, kit, fields, error, field):
    with pytest.raises(error) as caught:
        open_source(str(make_gguf(kit.LLAMA, fields=fields)))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("general", "field"),
    [
        ({"general.type": "adapter"}, "general.type"),
        ({"general.quantization_version": 1}, "general.quantization_version"),
        ({"split.count": 3}, "split.count"),
    ],
)
def test_what_the_file_as_a_whole_says_is_judged(make_gguf, kit, general, field):
    with pytest.raises(FeatureUnsupported) as caught:
        open_source(str(make_gguf(kit.LLAMA, general=general)))
    assert caught.value.field == field


def test_a_key_that_nobody_judged_is_refused(make_gguf, kit):
    with pytest.raises(ConfigKeyUnjudged) as caught:
        open_source(str(make_gguf(kit.LLAMA, fields={"logit_scale": 0.5})))
    assert caught.value.key == "llama.logit_scale"


def test_a_window_on_some_layers_of_qwen2_is_refused(make_gguf, kit):
    with pytest.raises(FeatureUnsupported):
        open_source(str(make_gguf(kit.QWEN, fields={"attention.sliding_window": 64})))


@pytest.mark.parametrize("family", ["bert", "gemma2", "nomic-bert", "qwen2moe", "qwen3", "mamba"])
def test_other_architectures_are_refused_by_name(make_gguf, kit, family):
    unreadable = {"blk.0.attn_rel_b.weight": (np.zeros((2, 2)), "F64")}  # tensors are not looked at
    with pytest.raises(ArchitectureUnsupported) as caught:
        open_source(str(make_gguf(replace(kit.LLAMA, family=family), extra=unreadable)))
    assert caught.value.architecture == family


def test_a_storage_type_without_values_is_refused(make_gguf, kit):
    name = "model.layers.0.mlp.up_proj.weight"
    tensors = kit.random_tensors(kit.LLAMA)
    data = tensors.pop(name).astype(np.float64)
    with pytest.raises(DtypeUnsupported) as caught:
        open_source(str(make_gguf(kit.LLAMA, tensors, extra={"blk.0.ffn_up.weight": (data, "F64")})))
    assert (caught.value.tensor, caught.value.dtype) == ("blk.0.ffn_up.weight", "F64")


@pytest.mark.parametrize(("family", "missing"), [("llama", "attn_norm.weight"), ("qwen2", "attn_k.bias")])
def test_a_missing_tensor_is_named_as_the_file_would(make_gguf, kit, family, missing):
    config = kit.QWEN if family == "qwen2" else kit.LLAMA
    ours = {"attn_norm.weight": "input_layernorm.weight", "attn_k.bias": "self_attn.k_proj.bias"}[missing]
    tensors = kit.random_tensors(config)
    del tensors[f"model.layers.1.{ours}"]
    with pytest.raises(TensorsDiffer) as caught:
        open_source(str(make_gguf(config, tensors)))
    assert caught.value.missing == (f"blk.1.{missing}",)


@pytest.mark.parametrize(
    "name",
    [
        "model.norm.weight",
        "lm_head.weight",
        "blk.0.attn_q.bias",
        "blk.7.ffn_up.weight",
        "blk.0.attn_q_norm.weight",
    ],
)
def test_a_tensor_too_many_is_named(make_gguf, kit, name):
    with pytest.raises(TensorsDiffer) as caught:
        open_source(str(make_gguf(kit.LLAMA, extra={name: (np.zeros(256, np.float32), "F32")})))
    assert caught.value.unexpected == (name,)


def test_a_transposed_matrix_is_called_that(make_gguf, kit):
    tensors = kit.random_tensors(kit.LLAMA)
    name = "model.layers.0.mlp.down_proj.weight"
    tensors[name] = np.ascontiguousarray(tensors[name].T)
    with pytest.raises(TensorsDiffer) as caught:
        open_source(str(make_gguf(kit.LLAMA, tensors)))
    (told,) = caught.value.misshapen
    assert told.startswith("blk.0.ffn_down.weight")
    assert told.endswith("transposed")


def test_a_file_cut_anywhere_is_refused(make_gguf, kit, tmp_path):
    whole = make_gguf(kit.LLAMA, default_dtype="Q4_0").read_bytes()
    cut = tmp_path / "cut.gguf"
    ends = [*range(0, 4000, 37), *np.linspace(4000, len(whole) - 40, 25).astype(int)]
    for end in ends:
        cut.write_bytes(whole[:end])
        with pytest.raises(SourceUnreadable):
            open_gguf(cut, tie="auto", read_tokenizer=False)


def test_a_damaged_head_never_ends_in_a_foreign_error(make_gguf, kit, tmp_path):
    whole = bytearray(make_gguf(kit.LLAMA, default_dtype="Q4_0").read_bytes())
    damaged = tmp_path / "damaged.gguf"
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        content = bytearray(whole)
        content[rng.integers(0, 2600)] = rng.integers(0, 256)
        damaged.write_bytes(content)
        try:
            open_gguf(damaged, tie="auto", read_tokenizer=False)
        except AprError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("length", [5, 1 << 12, 1 << 40, (1 << 64) - 1])
def test_a_promised_length_is_not_believed(tmp_path, length):
    # magic, version 3, no tensors, one key "k" of type array (9) of uint32 (4) with that many entries
    head = b"GGUF" + (3).to_bytes(4, "little") + (0).to_bytes(8, "little") + (1).to_bytes(8, "little")
    field = (1).to_bytes(8, "little") + b"k" + (9).to_bytes(4, "little") + (4).to_bytes(4, "little")
    path = tmp_path / "crafted.gguf"
    path.write_bytes(head + field + length.to_bytes(8, "little"))
    with pytest.raises(SourceUnreadable):
        open_gguf(path, tie="auto", read_tokenizer=False)


def test_the_other_byte_order_is_refused(make_gguf, kit, tmp_path):
    content = bytearray(make_gguf(kit.LLAMA).read_bytes())
    content[4:8] = (3).to_bytes(4, "big")
    path = tmp_path / "big.gguf"
    path.write_bytes(content)
    with pytest.raises(SourceUnreadable):
        open_gguf(path, tie="auto", read_tokenizer=False)


def test_an_array_larger_than_any_vocabulary_is_not_read(make_gguf, kit, monkeypatch):
    path = make_gguf(kit.LLAMA, general={"tokenizer.ggml.tokens": ["a"] * 11})
    assert open_source(str(path)).config == kit.LLAMA
    monkeypatch.setattr(gguf_file, "_MAX_ARRAY", 10)
    with pytest.raises(SourceUnreadable):
        open_source(str(path))


@pytest.mark.parametrize("offset", [0, (1 << 64) - 64, 1 << 40])
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_a_tensor_that_lies_in_another_or_outside_is_refused(make_gguf, kit, tmp_path, offset):
    content = bytearray(make_gguf(kit.LLAMA).read_bytes())
    name = b"blk.1.ffn_up.weight"
    at = (
        content.index(name) + len(name) + 4 + 2 * 8 + 4
    )  # after the number of dimensions, two of them, the type
    content[at : at + 8] = offset.to_bytes(8, "little")
    path = tmp_path / "overlapping.gguf"
    path.write_bytes(content)
    with pytest.raises(SourceUnreadable):
        open_gguf(path, tie="auto", read_tokenizer=False)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model at all, but long enough to be read"])
def test_what_is_no_gguf_file_is_refused(tmp_path, content):
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(SourceUnreadable):
        open_source(str(path))


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileMissing):
        open_gguf(tmp_path / "model.gguf", tie="auto", read_tokenizer=False)


def test_the_file_is_recorded_by_digest(make_gguf, kit):
    path = make_gguf(kit.LLAMA, general={"general.license": "apache-2.0"})
    source = open_source(str(path))
    assert [file.name for file in source.files] == [path.name]
    assert source.files[0].size_bytes == path.stat().st_size
    assert len(source.files[0].sha256) == 64
    assert (source.kind, source.license, source.tokenizer) == ("gguf", "apache-2.0", None)
