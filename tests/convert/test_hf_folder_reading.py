from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from apr.arch.errors import ArchitectureUnsupported
from apr.arch.inventory import EMBEDDING, HEAD
from apr.base.errors import BadJson
from apr.convert.errors import (
    DtypeUnsupported,
    IndexContradicted,
    NameRepeated,
    SourceAmbiguous,
    SourceIncomplete,
    SourceMissing,
    SourceUnreadable,
    TensorsDiffer,
    TieContradicted,
    TieImpossible,
)
from apr.convert.source import open_source

SIZES = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("shard", ["1GB", "40KB"])
def test_what_transformers_saves_is_read_exactly(tmp_path, family, tied, dtype, shard):
    kinds = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}[family]
    torch.manual_seed(0)
    model = kinds[1](kinds[0](**SIZES, tie_word_embeddings=tied)).to(dtype)
    model.save_pretrained(tmp_path, max_shard_size=shard)
    source = open_source(str(tmp_path))
    state = model.state_dict()
    if tied:
        del state[HEAD]
    assert source.config.tie_word_embeddings == source.tie.tied == tied
    assert set(source.tensors) == set(state)
    assert (len(source.files) > 2) == (shard == "40KB")
    for name, tensor in source.tensors.items():
        np.testing.assert_array_equal(tensor.load(), state[name].float().numpy())
        stored, values = tensor.raw()
        width = torch.float32 if dtype is torch.float32 else torch.int16
        np.testing.assert_array_equal(
            values.view(np.float32 if stored == "F32" else np.int16), state[name].view(width)
        )


def test_a_loaded_tensor_may_be_written_to_and_the_file_stays(make_folder, config):
    source = open_source(str(make_folder(config)))
    tensor = source.tensors[EMBEDDING]
    before = tensor.load().copy()
    tensor.load()[:] = 0
    np.testing.assert_array_equal(tensor.load(), before)


@pytest.mark.parametrize(
    ("flag", "head", "tie", "expected"),
    [
        (True, None, "auto", True),
        (True, "equal", "auto", True),
        (True, "other", "auto", TieContradicted),
        (True, "other", "yes", True),
        (True, "other", "no", False),
        (True, None, "no", TieImpossible),
        (False, "other", "auto", False),
        (False, "equal", "auto", False),
        (False, None, "auto", TensorsDiffer),
        (False, None, "yes", True),
        (None, None, "auto", True),
        (None, "equal", "auto", True),
        (None, "other", "auto", False),
    ],
)
def test_tie_decisions(make_folder, kit, flag, head, tie, expected):
    tensors = kit.random_tensors(kit.LLAMA)
    if head is not None:
        tensors[HEAD] = tensors[EMBEDDING].copy()
        tensors[HEAD][0, 0] += 0 if head == "equal" else 1
    folder = make_folder(kit.LLAMA, tensors, {"tie_word_embeddings": flag})
    if isinstance(expected, bool):
        source = open_source(str(folder), tie=tie)
        assert (
            source.tie.tied == source.config.tie_word_embeddings == (HEAD not in source.tensors) == expected
        )
        assert source.tie.figures["head_stored"] == (head is not None)
        assert (source.tie.rule == f"--tie {tie}") == (tie != "auto")
    else:
        with pytest.raises(expected):
            open_source(str(folder), tie=tie)


def sharded(folder, kit):
    """Two shards and their index."""
    tensors = kit.random_tensors(kit.LLAMA)
    names = sorted(tensors)
    files = {name: f"model-0000{1 + (at % 2)}-of-00002.safetensors" for at, name in enumerate(names)}
    shards = {
        file: {n: tensors[n] for n in names if files[n] == file} for file in sorted(set(files.values()))
    }
    kit.write_folder(folder, kit.hf_config(kit.LLAMA), shards)
    kit.write_index(folder, files)
    return files


def test_shards_are_one_checkpoint(tmp_path, kit):
    sharded(tmp_path, kit)
    source = open_source(str(tmp_path))
    for name, values in kit.random_tensors(kit.LLAMA).items():
        np.testing.assert_array_equal(source.tensors[name].load(), values)
    assert {file.name for file in source.files} == {
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    }


def stale_single_file(folder, files, kit):
    shutil.copy(folder / "model-00001-of-00002.safetensors", folder / "model.safetensors")


def no_index(folder, files, kit):
    (folder / "model.safetensors.index.json").unlink()


def shard_gone(folder, files, kit):
    (folder / "model-00002-of-00002.safetensors").unlink()


def index_names_more(folder, files, kit):
    kit.write_index(folder, files | {"model.extra": "model-00001-of-00002.safetensors"})


def index_names_less(folder, files, kit):
    kit.write_index(folder, {name: file for name, file in files.items() if name != EMBEDDING})


def index_names_another(folder, files, kit):
    other = {"model-00001-of-00002.safetensors": "model-00002-of-00002.safetensors"}
    moved = other.get(files[EMBEDDING], "model-00001-of-00002.safetensors")
    kit.write_index(folder, files | {EMBEDDING: moved})


def index_leaves_the_folder(folder, files, kit):
    kit.write_index(folder, files | {EMBEDDING: "../model.safetensors"})


def index_without_a_map(folder, files, kit):
    (folder / "model.safetensors.index.json").write_text("{}")


def one_shard_twice(folder, files, kit):
    shutil.copy(folder / "model-00001-of-00002.safetensors", folder / "model-00002-of-00002.safetensors")


def gguf_beside(folder, files, kit):
    (folder / "model.gguf").write_bytes(b"GGUF")


def adapter_beside(folder, files, kit):
    (folder / "adapter_model.bin").write_bytes(b"PK")


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (stale_single_file, SourceAmbiguous),
        (adapter_beside, SourceAmbiguous),
        (no_index, SourceAmbiguous),
        (gguf_beside, SourceAmbiguous),
        (shard_gone, IndexContradicted),
        (index_names_more, IndexContradicted),
        (index_names_less, IndexContradicted),
        (index_names_another, IndexContradicted),
        (index_leaves_the_folder, IndexContradicted),
        (index_without_a_map, IndexContradicted),
        (one_shard_twice, NameRepeated),
    ],
)
def test_a_folder_that_could_mean_two_things_is_refused(tmp_path, kit, spoil, error):
    files = sharded(tmp_path, kit)
    spoil(tmp_path, files, kit)
    with pytest.raises(error):
        open_source(str(tmp_path))


def test_one_name_twice_in_a_file_is_refused(make_folder, kit):
    folder = make_folder(kit.LLAMA)
    path = folder / "model.safetensors"
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + length].strip(), content[8 + length :]
    entry = json.dumps(json.loads(header)[EMBEDDING])
    doubled = header[:-1] + f',"{EMBEDDING}":{entry}}}'.encode()
    doubled += b" " * (-len(doubled) % 8)
    path.write_bytes(len(doubled).to_bytes(8, "little") + doubled + data)
    with pytest.raises(NameRepeated) as caught:
        open_source(str(folder))
    assert caught.value.name == EMBEDDING


@pytest.mark.parametrize("keep", [0, 7, 100, 5000, -3])
def test_a_file_that_is_cut_is_refused(make_folder, kit, keep):
    path = make_folder(kit.LLAMA) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SourceUnreadable):
        open_source(str(path.parent))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_without_what_it_needs_is_refused(make_folder, kit, name):
    folder = make_folder(kit.LLAMA)
    (folder / name).unlink()
    with pytest.raises(SourceIncomplete):
        open_source(str(folder))


def test_a_config_that_is_no_json_is_refused(make_folder, kit):
    folder = make_folder(kit.LLAMA)
    (folder / "config.json").write_text("{")
    with pytest.raises(BadJson):
        open_source(str(folder))


def test_an_encoder_is_refused_before_its_tensors_are_read(make_folder, kit):
    folder = make_folder(kit.LLAMA, changes={"model_type": "bert", "architectures": ["BertModel"]})
    (folder / "model.safetensors").write_bytes(b"not read")
    with pytest.raises(ArchitectureUnsupported):
        open_source(str(folder))


@pytest.mark.parametrize("dtype", [np.float64, np.int8])
def test_a_storage_type_that_is_no_training_dtype_is_refused(make_folder, kit, dtype):
    tensors = kit.random_tensors(kit.LLAMA)
    tensors["model.norm.weight"] = tensors["model.norm.weight"].astype(dtype)
    with pytest.raises(DtypeUnsupported) as caught:
        open_source(str(make_folder(kit.LLAMA, tensors)))
    assert caught.value.tensor == "model.norm.weight"


def test_every_tensor_that_differs_is_named(make_folder, kit):
    tensors = kit.random_tensors(kit.LLAMA)
    del tensors["model.norm.weight"]
    tensors["model.layers.0.self_attn.q_proj.bias"] = np.zeros(256, np.float32)
    tensors["model.layers.0.mlp.up_proj.weight"] = np.zeros((256, 512), np.float32)
    with pytest.raises(TensorsDiffer) as caught:
        open_source(str(make_folder(kit.LLAMA, tensors)))
    assert caught.value.missing == ("model.norm.weight",)
    assert caught.value.unexpected == ("model.layers.0.self_attn.q_proj.bias",)
    assert caught.value.misshapen[0].endswith("transposed")
    assert "model.norm.weight" in caught.value.message


def test_qwen2_without_its_biases_is_refused(make_folder, kit):
    tensors = {name: values for name, values in kit.random_tensors(kit.QWEN).items() if "bias" not in name}
    with pytest.raises(TensorsDiffer) as caught:
        open_source(str(make_folder(kit.QWEN, tensors)))
    assert len(caught.value.missing) == 6


def test_the_card_names_the_license(make_folder, kit):
    folder = make_folder(kit.LLAMA)
    assert open_source(str(folder)).license is None
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\nlicense: mit\n")
    assert open_source(str(folder)).license == "apache-2.0"


def test_two_gguf_files_are_refused(tmp_path):
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(SourceAmbiguous):
        open_source(str(tmp_path))


def test_a_folder_with_one_gguf_file_is_that_file(make_gguf, kit, tmp_path):
    make_gguf(kit.LLAMA)
    assert open_source(str(tmp_path)).kind == "gguf"


@pytest.mark.parametrize("location", ["nowhere", "nowhere.gguf"])
def test_a_location_that_is_nothing_is_named(tmp_path, location):
    with pytest.raises(SourceMissing):
        open_source(str(tmp_path / location))
