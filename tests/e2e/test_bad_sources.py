"""`apr import` refuses what is cut off, ambiguous, contradictory or no decoder, and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from apr.convert.gguf_names import gguf_name
from apr.tokenizer.definition import save_definition
from e2e.refusal import call, refused
from tiny import CONFIG, make_tokenizer, make_weights

NORM, DOWN = "model.norm.weight", "model.layers.1.mlp.down_proj.weight"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder as transformers itself leaves it; copied before it is spoilt."""
    path = tmp_path_factory.mktemp("hf") / "model"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=CONFIG.vocab_size,
        hidden_size=CONFIG.hidden_size,
        intermediate_size=CONFIG.intermediate_size,
        num_hidden_layers=CONFIG.num_hidden_layers,
        num_attention_heads=CONFIG.num_attention_heads,
        num_key_value_heads=CONFIG.num_key_value_heads,
        max_position_embeddings=CONFIG.max_position_embeddings,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    save_definition(make_tokenizer(), path)
    return path


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GGUF file, in the package's own spelling."""
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(CONFIG.num_hidden_layers)
    writer.add_context_length(CONFIG.max_position_embeddings)
    writer.add_embedding_length(CONFIG.hidden_size)
    writer.add_feed_forward_length(CONFIG.intermediate_size)
    writer.add_head_count(CONFIG.num_attention_heads)
    writer.add_head_count_kv(CONFIG.num_key_value_heads)
    writer.add_rope_freq_base(CONFIG.rope_theta)
    writer.add_layer_norm_rms_eps(CONFIG.rms_norm_eps)
    for name, value in make_weights(CONFIG).items():
        writer.add_tensor(gguf_name(name), value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def imported(source: object, folder: Path, *more: object) -> tuple[object, ...]:
    return ("import", source, "-o", folder / "out" / "model.apr", "--oracle", "self", *more)


def test_the_folder_itself_is_imported(tmp_path: Path, folder: Path) -> None:
    """What the cases below spoil is good: without that, none of them would mean anything."""
    assert call(*imported(folder, tmp_path)).code == 0


def config(**changes: Any) -> Callable[[Path], None]:
    """Change config.json; None takes a key out."""

    def apply(folder: Path) -> None:
        values = json.loads((folder / "config.json").read_text()) | changes
        kept = {key: value for key, value in values.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(kept))

    return apply


Tensors = dict[str, np.ndarray]


def tensors(change: Callable[[Tensors], Tensors]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS)

    return apply


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda found: {key: value for key, value in found.items() if key != name}


def poisoned(found: Tensors) -> Tensors:
    found[NORM][3] = np.nan
    return found


def cut(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1000])


def stale_index(folder: Path) -> None:
    names = dict.fromkeys(load_file(folder / WEIGHTS), "part.safetensors")
    shutil.copy(folder / WEIGHTS, folder / "part.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": names}))


def index_of_nothing(folder: Path) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": {NORM: "gone.safetensors"}}))


def tokenizer_too_large(folder: Path) -> None:
    save_definition(make_tokenizer(400), folder)


FOLDERS: dict[str, tuple[Callable[[Path], None], str, dict[str, object]]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "APR803", {"missing": "config.json"}),
    "a cut config": (lambda f: (f / "config.json").write_text('{"model'), "APR105", {}),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "APR803", {"missing": "*.safetensors"}),
    "cut weights": (cut, "APR804", {"format": "safetensors"}),
    "empty weights": (lambda f: (f / WEIGHTS).write_bytes(b""), "APR804", {"format": "safetensors"}),
    "two files and no index": (
        lambda f: shutil.copy(f / WEIGHTS, f / "other.safetensors"), "APR802", {"found": "other.safetensors"}
    ),
    "a stale file beside an index": (stale_index, "APR802", {"found": WEIGHTS}),
    "an index of files that are gone": (index_of_nothing, "APR812", {"names": "gone.safetensors"}),
    "a GGUF beside the weights": (lambda f: (f / "m.gguf").write_bytes(b""), "APR802", {"found": "m.gguf"}),
    "a missing tensor": (tensors(without(NORM)), "APR805", {"missing": NORM}),
    "an extra tensor": (tensors(lambda t: t | {"x": t[NORM]}), "APR805", {"unexpected": "x"}),
    "a renamed tensor": (
        tensors(lambda t: without(NORM)(t) | {"model.n.weight": t[NORM]}), "APR805", {"unexpected": "model.n"}
    ),
    "a transposed tensor": (
        tensors(lambda t: t | {DOWN: np.ascontiguousarray(t[DOWN].T)}), "APR805", {"misshapen": DOWN}
    ),
    "a NaN": (tensors(poisoned), "APR820", {"tensor": NORM, "count": 1}),
    "a head that is not the embedding": (
        tensors(lambda t: t | {"lm_head.weight": t["model.embed_tokens.weight"] * 2}),
        "APR809",
        {"head": "lm_head.weight"},
    ),
    "integers": (tensors(lambda t: t | {NORM: t[NORM].astype(np.int32)}), "APR806", {"tensor": NORM}),
    "no epsilon": (config(rms_norm_eps=None), "APR301", {"fields": "rms_norm_eps"}),
    "another width": (config(hidden_size=128), "APR805", {}),
    "2^24 layers": (config(num_hidden_layers=2**24), "APR303", {"field": "num_hidden_layers"}),
    "another class": (config(architectures=["LlamaForSequenceClassification"]), "APR304", {}),
    "gelu": (config(hidden_act="gelu"), "APR305", {"value": "gelu"}),
    "a key that nobody judged": (config(logit_scale=0.5), "APR811", {"key": "logit_scale"}),
    "dropout": (config(attention_dropout=0.1), "APR305", {"field": "attention_dropout"}),
    "a tokenizer too large": (tokenizer_too_large, "APR822", {"max_id": 399, "rows": 320}),
    "a broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "APR401", {}),
}  # fmt: skip


@pytest.mark.parametrize("defect", FOLDERS)
def test_a_folder_that_is_no_checkpoint(tmp_path: Path, folder: Path, defect: str) -> None:
    spoil, error_id, says = FOLDERS[defect]
    source = tmp_path / "source"
    shutil.copytree(folder, source)
    if error_id in ("APR401", "APR822"):
        (source / "tokenizer_apr.json").unlink()
    spoil(source)
    refused(*imported(source, tmp_path), error_id=error_id, says=says, folder=tmp_path)


def test_an_encoder_saved_by_transformers(tmp_path: Path) -> None:
    """FALSIFY-APR-PRETRAIN-ARCH-007, through the import."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    BertModel(BertConfig(vocab_size=320, **sizes)).save_pretrained(tmp_path / "bert")
    says = {"architecture": "bert"}
    refused(*imported(tmp_path / "bert", tmp_path), error_id="APR304", says=says, folder=tmp_path)


CUTS = {
    "in the magic": 3,
    "in the header": 20,
    "in the fields": 200,
    "in the tensor list": 800,
    "in the data": -500,
}


@pytest.mark.parametrize("place", CUTS)
def test_a_gguf_that_is_cut_off(tmp_path: Path, gguf_file: Path, place: str) -> None:
    source = tmp_path / "model.gguf"
    source.write_bytes(gguf_file.read_bytes()[: CUTS[place]])
    says = {"format": "GGUF", "path": source}
    refused(*imported(source, tmp_path), error_id="APR804", says=says, folder=tmp_path)


@pytest.mark.parametrize("size", [1_000, 2_000_000, -1])
def test_a_real_gguf_that_is_cut_off(tmp_path: Path, smollm2_gguf: Path, size: int) -> None:
    source = tmp_path / "model.gguf"
    if size > 0:
        with smollm2_gguf.open("rb") as stream:
            source.write_bytes(stream.read(size))
    else:  # the last byte: the file is 98 MB, so its end is cut on a copy that shares nothing
        shutil.copy(smollm2_gguf, source)
        with source.open("r+b") as stream:
            stream.truncate(smollm2_gguf.stat().st_size + size)
    refused(*imported(source, tmp_path), error_id="APR804", folder=tmp_path)


def test_the_cut_file_is_not_refused_for_something_else(tmp_path: Path, gguf_file: Path) -> None:
    assert call(*imported(gguf_file, tmp_path)).code == 0


GGUFS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda raw: b"", "APR804"),
    "another magic": (lambda raw: b"NOPE" + raw[4:], "APR804"),
    "a claim of 2^60 tensors": (lambda raw: raw[:8] + (2**60).to_bytes(8, "little") + raw[16:], "APR804"),
    "a claim of 2^60 fields": (lambda raw: raw[:16] + (2**60).to_bytes(8, "little") + raw[24:], "APR804"),
    "another architecture": (lambda raw: raw.replace(b"llama", b"gptq2"), "APR304"),
    "layers that are not there": (
        lambda raw: raw.replace(b"llama.block_count\4\0\0\0\2\0\0\0", b"llama.block_count\4\0\0\0\0\x0f\0\0"),
        "APR805",
    ),
}


@pytest.mark.parametrize("defect", GGUFS)
def test_a_gguf_that_says_the_impossible(tmp_path: Path, gguf_file: Path, defect: str) -> None:
    spoil, error_id = GGUFS[defect]
    raw = gguf_file.read_bytes()
    assert spoil(raw) != raw
    source = tmp_path / "model.gguf"
    source.write_bytes(spoil(raw))
    refused(*imported(source, tmp_path), error_id=error_id, folder=tmp_path)


def two_ggufs(folder: Path) -> str:
    for name in ("a.gguf", "b.gguf"):
        (folder / name).write_bytes(b"GGUF")
    return str(folder)


def a_loop(folder: Path) -> str:
    (folder / "x.gguf").symlink_to(folder / "x.gguf")
    return str(folder / "x.gguf")


LOCATIONS: dict[str, tuple[Callable[[Path], str], str]] = {
    "missing": (lambda folder: str(folder / "nowhere"), "APR801"),
    "a loop": (a_loop, "APR801"),
    "a file of another suffix": (lambda folder: __file__, "APR801"),
    "an empty folder": (str, "APR803"),
    "two GGUF files": (two_ggufs, "APR802"),
    "half a hub id": (lambda folder: "hf://only-one", "APR815"),
    "an empty hub id": (lambda folder: "hf://", "APR815"),
    "a name that is too long": (lambda folder: "x" * 5000, "APR106"),
}


@pytest.mark.parametrize("place", LOCATIONS)
def test_a_location_that_names_nothing(tmp_path: Path, place: str) -> None:
    make, error_id = LOCATIONS[place]
    refused(*imported(make(tmp_path), tmp_path), error_id=error_id, folder=tmp_path)


def test_an_output_that_is_there_is_not_replaced(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "model.apr").write_text("precious")
    arguments = ("import", folder, "-o", tmp_path / "model.apr", "--oracle", "none")
    refused(*arguments, error_id="APR104", says={"path": tmp_path / "model.apr"}, folder=tmp_path)


def test_an_output_that_is_a_folder(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "model.apr").mkdir()
    arguments = ("import", folder, "-o", tmp_path / "model.apr", "--oracle", "none", "--force")
    refused(*arguments, error_id="APR103", says={"path": tmp_path / "model.apr"}, folder=tmp_path)


def test_f16_cannot_hold_every_weight(tmp_path: Path, folder: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(folder, source)
    tensors(lambda found: found | {NORM: found[NORM] * np.float32(1e6)})(source)
    arguments = imported(source, tmp_path, "--dtype", "f16")
    refused(*arguments, error_id="APR821", says={"tensor": NORM, "dtype": "F16"}, folder=tmp_path)


def test_a_head_that_is_not_there_cannot_be_untied(tmp_path: Path, folder: Path) -> None:
    arguments = imported(folder, tmp_path, "--tie", "no")
    refused(*arguments, error_id="APR808", folder=tmp_path)


def test_a_tokenizer_given_by_hand_that_is_too_large(tmp_path: Path, folder: Path) -> None:
    """A tokenizer given by hand is held against the embedding like the source's own."""
    save_definition(make_tokenizer(400), tmp_path / "tokenizer")
    arguments = imported(folder, tmp_path, "--tokenizer", tmp_path / "tokenizer")
    refused(*arguments, error_id="APR822", says={"max_id": 399}, folder=tmp_path)
