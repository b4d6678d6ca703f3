from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from apr.aprfile.metadata import read_facts
from apr.aprfile.reader import open_apr
from apr.arch.inventory import EMBEDDING, HEAD
from apr.base.errors import OutputExists
from apr.convert.errors import DtypeOverflows, TensorNotFinite, TokenizerTooLarge
from apr.convert.importer import import_checkpoint
from apr.convert.source import open_source
from apr.tokenizer.definition import TokenizerDefinition

NORM = "model.norm.weight"
UP = "model.layers.0.mlp.up_proj.weight"


def run(source, out, **options):
    options = {"tokenizer": None, "record_reference": None} | options
    return import_checkpoint(source, out, **options)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "model.apr"


def tokenizer_of(ids):
    document = {"model": {"type": "BPE", "vocab": {f"t{id_}": id_ for id_ in ids}, "merges": []}}
    return TokenizerDefinition(
        json_text=json.dumps(document),
        end_of_text_id=None,
        end_of_text_reason="none",
        bos_token_id=None,
        eos_token_id=None,
    )


@pytest.mark.parametrize(
    ("source_dtype", "dtype", "stored"),
    [
        ("F32", "keep", "F32"),
        ("F16", "keep", "F16"),
        ("BF16", "keep", "BF16"),
        ("Q8_0", "keep", "F32"),
        ("Q8_0", "bf16", "BF16"),
        ("F32", "f16", "F16"),
        ("BF16", "f32", "F32"),
        ("F16", "f16", "F16"),
    ],
)
def test_tensors_are_stored_as_asked(make_gguf, kit, out, source_dtype, dtype, stored):
    source = open_source(str(make_gguf(kit.LLAMA, default_dtype=source_dtype)))
    result = run(source, out, dtype=dtype)
    with open_apr(out) as file:
        assert file.entries[UP].dtype == stored
        assert set(file.entries) == {*source.tensors, HEAD}
        for name, tensor in source.tensors.items():
            rounded = tensor.load()
            if stored != "F32" and (name == UP or dtype != "keep"):
                tolerance = {"BF16": 2**-8, "F16": 2**-10}[stored]
                np.testing.assert_allclose(file.as_f32(name), rounded, rtol=tolerance, atol=2**-24)
            else:
                np.testing.assert_array_equal(file.as_f32(name), rounded)
    assert result.dtypes[stored] == sum(entry.dtype == stored for entry in file.entries.values()) - (
        file.entries[HEAD].dtype == stored
    )


@pytest.mark.parametrize("source_dtype", ["F32", "F16", "BF16", "Q5_0"])
def test_keep_is_the_default_and_loses_nothing(make_gguf, kit, out, source_dtype):
    source = open_source(str(make_gguf(kit.QWEN, default_dtype=source_dtype)))
    run(source, out)
    with open_apr(out) as file:
        for name, tensor in source.tensors.items():
            np.testing.assert_array_equal(file.as_f32(name), tensor.load())


@pytest.mark.parametrize("dtype", ["Q4_K", "Q6_K"])
def test_k_quants_pass_through_as_bytes(make_gguf, kit, out, dtype):
    name = "model.layers.0.self_attn.q_proj.weight"
    tensors = kit.random_tensors(kit.LLAMA)
    tensors[name] = kit.random_blocks(256, 256, dtype)
    source = open_source(str(make_gguf(kit.LLAMA, tensors, dtypes={name: dtype})))
    run(source, out)
    with open_apr(out) as file:
        assert file.entries[name].dtype == dtype
        assert bytes(file.bytes_of(name)) == tensors[name].tobytes()
        np.testing.assert_array_equal(file.as_f32(name), source.tensors[name].load())


@pytest.mark.parametrize("dtype", ["keep", "bf16", "f16", "f32"])
def test_the_reference_sees_what_the_file_holds(make_gguf, kit, out, dtype):
    tensors = kit.random_tensors(kit.LLAMA)
    tensors[UP] = kit.random_blocks(512, 256, "Q4_K")
    source = open_source(str(make_gguf(kit.LLAMA, tensors, dtypes={UP: "Q4_K", EMBEDDING: "Q5_0"})))
    seen = {}

    def record(config, values):
        assert config == source.config
        assert len(values) == len(source.tensors)
        seen.update({name: values[name] for name in values})
        return {"grade": "A"}

    result = run(source, out, dtype=dtype, record_reference=record)
    assert result.reference == {"grade": "A"}
    with open_apr(out) as file:
        assert read_facts(file).reference == {"grade": "A"}
        for name, values in seen.items():
            assert values.dtype == np.float32
            assert values.flags.writeable
            np.testing.assert_array_equal(values, file.as_f32(name), err_msg=name)


def test_one_tensor_is_computed_when_it_is_asked_for(make_gguf, kit, out):
    source = open_source(str(make_gguf(kit.LLAMA)))
    loads = []

    def counted(tensor):
        def load():
            loads.append(tensor.name)
            return tensor.load()

        return replace(tensor, load=load)

    source = replace(source, tensors={name: counted(tensor) for name, tensor in source.tensors.items()})

    def record(config, values):
        assert loads == []
        assert values[NORM].shape == (256,)
        assert loads == [NORM]
        return {}

    run(source, out, record_reference=record)


def test_the_file_says_where_it_came_from(make_gguf, kit, out):
    path = make_gguf(kit.LLAMA, general={"general.license": "apache-2.0"})
    source = open_source(str(path))
    result = run(source, out, tokenizer=tokenizer_of(range(96)))
    with open_apr(out) as file:
        facts = read_facts(file)
        assert file.metadata["license"] == "apache-2.0"
        assert file.metadata["original_format"] == "gguf"
        assert file.aliases == {HEAD: EMBEDDING}
        assert result.file_digest == file.file_digest
    assert facts.config == kit.LLAMA
    assert [each["sha256"] for each in facts.sources] == [source.files[0].sha256]
    assert facts.tie == {"tied": True, "rule": source.tie.rule, "figures": {}}
    assert facts.tokenizer["sha256"] == result.tokenizer_sha256
    assert facts.lineage is None


def test_an_untied_head_is_stored(make_folder, kit, out):
    config = replace(kit.LLAMA, tie_word_embeddings=False)
    source = open_source(str(make_folder(config)))
    run(source, out)
    with open_apr(out) as file:
        assert file.aliases == {}
        np.testing.assert_array_equal(file.as_f32(HEAD), source.tensors[HEAD].load())
        assert read_facts(file).config == config


def test_importing_twice_writes_the_same_bytes(make_gguf, kit, tmp_path):
    source = open_source(str(make_gguf(kit.LLAMA)))
    files = [tmp_path / "a.apr", tmp_path / "b.apr"]
    for file in files:
        run(source, file)
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("dtype", ["keep", "bf16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_stops_the_import(make_folder, kit, out, value, dtype):
    tensors = kit.random_tensors(kit.LLAMA)
    tensors[UP][3, 4:6] = value
    with pytest.raises(TensorNotFinite) as caught:
        run(open_source(str(make_folder(kit.LLAMA, tensors))), out, dtype=dtype)
    assert (caught.value.tensor, caught.value.count) == (UP, 2)
    assert not out.exists()


def test_a_scale_that_is_not_finite_is_found_in_raw_blocks(make_gguf, kit, out):
    tensors = kit.random_tensors(kit.LLAMA)
    tensors[UP] = kit.random_blocks(512, 256, "Q6_K")
    tensors[UP][7, 208:210] = np.array([np.nan], np.float16).view(np.uint8)
    with pytest.raises(TensorNotFinite) as caught:
        run(open_source(str(make_gguf(kit.LLAMA, tensors, dtypes={UP: "Q6_K"}))), out)
    assert caught.value.tensor == UP


def test_f16_does_not_overflow_in_silence(make_folder, kit, out):
    tensors = kit.random_tensors(kit.LLAMA)
    tensors[NORM][5] = -70000.0
    source = open_source(str(make_folder(kit.LLAMA, tensors)))
    with pytest.raises(DtypeOverflows) as caught:
        run(source, out, dtype="f16")
    assert (caught.value.tensor, caught.value.value) == (NORM, -70000.0)
    run(source, out, dtype="bf16")


@pytest.mark.parametrize("ids", [range(97), [0, 1, 96]], ids=["too many", "a hole"])
def test_a_tokenizer_with_ids_beyond_the_rows_is_refused(make_gguf, kit, out, ids):
    with pytest.raises(TokenizerTooLarge) as caught:
        run(open_source(str(make_gguf(kit.LLAMA))), out, tokenizer=tokenizer_of(ids))
    assert (caught.value.max_id, caught.value.rows) == (96, 96)
    assert not out.exists()


def test_a_tokenizer_with_fewer_ids_than_rows_is_taken(make_gguf, kit, out):
    assert run(open_source(str(make_gguf(kit.LLAMA))), out, tokenizer=tokenizer_of(range(90))).path == out


def test_the_callers_tokenizer_comes_before_the_sources_own(make_gguf, kit, out):
    source = replace(open_source(str(make_gguf(kit.LLAMA))), tokenizer=tokenizer_of(range(96)))
    given = tokenizer_of(range(50))
    assert run(source, out).tokenizer_sha256 == source.tokenizer.sha256
    assert run(source, out, tokenizer=given, force=True).tokenizer_sha256 == given.sha256


def test_an_existing_file_is_replaced_only_by_force(make_gguf, kit, out):
    source = open_source(str(make_gguf(kit.LLAMA)))
    out.write_bytes(b"mine")
    with pytest.raises(OutputExists):
        run(source, out)
    assert out.read_bytes() == b"mine"
    run(source, out, force=True)
    assert out.stat().st_size > 1000
