"""Small checkpoints in foreign formats, written by the formats' own libraries."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import quantize
from safetensors.numpy import save_file

from apr.arch.config import TransformerConfig
from apr.arch.inventory import inventory
from apr.arch.presets import PRESETS
from apr.convert.gguf_names import gguf_name

Tensors = dict[str, np.ndarray]

LLAMA = replace(
    PRESETS["tiny"],
    vocab_size=96,
    hidden_size=256,
    intermediate_size=512,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=64,
    rms_norm_eps=1e-5,
    rope_theta=1e5,
    tie_word_embeddings=True,
)
QWEN = replace(LLAMA, family="qwen2", attention_bias=True, rms_norm_eps=1e-6, rope_theta=1e6)
CONFIGS = {"llama": LLAMA, "qwen2": QWEN}


def random_tensors(config: TransformerConfig, seed: int = 0) -> Tensors:
    rng = np.random.default_rng(seed)
    return {spec.name: rng.normal(0, 0.05, spec.shape).astype(np.float32) for spec in inventory(config)}


def interleave(rows: np.ndarray, heads: int) -> np.ndarray:
    """llama's q and k as converters write them: (i, i + H/2) of each head become neighbours."""
    halves = rows.reshape(heads, 2, len(rows) // heads // 2, -1)
    return np.swapaxes(halves, 1, 2).reshape(rows.shape)


def gguf_fields(config: TransformerConfig) -> dict[str, Any]:
    return {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "rope.freq_base": config.rope_theta,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
    }


def write_gguf(
    path: Path,
    config: TransformerConfig,
    tensors: Tensors,
    *,
    dtypes: Mapping[str, str] | None = None,
    default_dtype: str = "F32",
    fields: Mapping[str, Any] | None = None,
    general: Mapping[str, Any] | None = None,
    extra: Mapping[str, tuple[np.ndarray, str]] | None = None,
) -> Path:
    """Write a GGUF file; `fields` overrides own fields, where None leaves one out; `extra` are stored tensors."""
    writer = gguf.GGUFWriter(path, config.family)
    own = {
        f"{config.family}.{key}": value for key, value in (gguf_fields(config) | dict(fields or {})).items()
    }
    for key, value in (own | dict(general or {})).items():
        add_field(writer, key, value)
    for name, values in tensors.items():
        dtype = (dtypes or {}).get(name, default_dtype if values.ndim > 1 else "F32")
        if config.family == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            values = interleave(values, heads)
        add_stored(writer, gguf_name(name), *(stored(values, dtype), dtype))
    for name, (data, dtype) in (extra or {}).items():
        add_stored(writer, name, data, dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_field(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    if isinstance(value, list):
        writer.add_array(key, value)
    elif value is not None:
        kinds[type(value)](key, value)


def stored(values: np.ndarray, dtype: str) -> np.ndarray:
    return values if dtype in ("Q4_K", "Q6_K") else quantize(values, GGMLQuantizationType[dtype])


def add_stored(writer: gguf.GGUFWriter, name: str, data: np.ndarray, dtype: str) -> None:
    raw = None if dtype in ("F32", "F16", "F64") else GGMLQuantizationType[dtype]
    writer.add_tensor(name, data, raw_dtype=raw)


def random_blocks(rows: int, columns: int, dtype: str, seed: int = 0) -> np.ndarray:
    """Rows of K-quant blocks with random contents and small scales; the package cannot quantise to them."""
    rng = np.random.default_rng(seed)
    size = {"Q4_K": 144, "Q6_K": 210}[dtype]
    blocks = rng.integers(0, 256, (rows * columns // 256, size), dtype=np.uint8)
    scale = rng.uniform(1e-4, 1e-3, (len(blocks), 1)).astype(np.float16).view(np.uint8)
    for at in (0, 2) if dtype == "Q4_K" else (208,):
        blocks[:, at : at + 2] = scale
    return blocks.reshape(rows, -1)


def hf_config(config: TransformerConfig) -> dict[str, Any]:
    """A config.json as published checkpoints have it."""
    classes = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}
    names = (
        *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
        *("num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "rope_theta", "hidden_act"),
        "tie_word_embeddings",
    )
    written = {name: getattr(config, name) for name in names}
    return {"architectures": [classes[config.family]], "model_type": config.family} | written


def write_folder(folder: Path, config: Mapping[str, Any], shards: Mapping[str, Tensors]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(dict(config)))
    for name, tensors in shards.items():
        save_file(dict(tensors), folder / name)
    return folder


def write_index(folder: Path, weight_map: Mapping[str, str]) -> None:
    index = {"metadata": {"total_size": 0}, "weight_map": dict(weight_map)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.fixture(scope="session")
def kit() -> SimpleNamespace:
    """The functions above, for tests that put files together themselves."""
    functions = (
        random_tensors,
        interleave,
        random_blocks,
        stored,
        hf_config,
        write_folder,
        write_index,
        write_gguf,
    )
    return SimpleNamespace(LLAMA=LLAMA, QWEN=QWEN, **{function.__name__: function for function in functions})


@pytest.fixture(params=sorted(CONFIGS))
def config(request: pytest.FixtureRequest) -> TransformerConfig:
    return CONFIGS[request.param]


@pytest.fixture
def make_gguf(tmp_path: Path) -> Callable[..., Path]:
    """Write a small GGUF file: `make_gguf(config, tensors, **see write_gguf)`."""

    def make(
        config: TransformerConfig, tensors: Tensors | None = None, name: str = "model.gguf", **rest: Any
    ) -> Path:
        return write_gguf(tmp_path / name, config, tensors or random_tensors(config), **rest)

    return make


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write a small Hugging Face folder with one file; `changes` to config.json, where None removes a key."""

    def make(
        config: TransformerConfig, tensors: Tensors | None = None, changes: Mapping[str, Any] | None = None
    ) -> Path:
        values = hf_config(config) | dict(changes or {})
        values = {key: value for key, value in values.items() if value is not None}
        shards = {"model.safetensors": tensors or random_tensors(config)}
        return write_folder(tmp_path / "checkpoint", values, shards)

    return make
