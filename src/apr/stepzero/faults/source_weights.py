"""Faults of a source folder that lie in its tensors: names, shapes, dtypes and numbers that are none."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from apr.stepzero.faults.fault import Fault
from apr.stepzero.faults.folders import (
    EMBEDDING,
    FINAL_NORM,
    HEAD,
    Bits,
    change_bits,
    heads,
    last_layer,
    layer,
    other_weights,
    put_tensors,
    read_config,
    tensor,
)
from apr.stepzero.faults.planting import source_fault

_PARTS = (
    "input_layernorm.weight",
    *(f"self_attn.{name}_proj.weight" for name in "qkvo"),
    "post_attention_layernorm.weight",
    *(f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")),
)
_BIASES = tuple(f"self_attn.{name}_proj.bias" for name in "qkv")
_DOWN = "mlp.down_proj.weight"
_NORM = "post_attention_layernorm.weight"


def has_biases(config: Any) -> bool:
    """Whether q, k and v have biases."""
    return bool(config.attention_bias)


def has_no_biases(config: Any) -> bool:
    """Whether q, k and v have none."""
    return not config.attention_bias


def is_tied(config: Any) -> bool:
    """Whether the head is the embedding."""
    return bool(config.tie_word_embeddings)


def is_untied(config: Any) -> bool:
    """Whether the head is a matrix of its own."""
    return not config.tie_word_embeddings


def _drop(*names: str) -> Callable[[Path], None]:
    return lambda folder: put_tensors(folder, dict.fromkeys(names))


def _on_last(part: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda folder: change_bits(folder, layer(last_layer(folder), part), change)


def _layer_missing(folder: Path) -> None:
    number = last_layer(folder)
    parts = _PARTS + (_BIASES if read_config(folder)["model_type"] == "qwen2" else ())
    put_tensors(folder, {layer(number, part): None for part in parts})


def _layer_too_many(folder: Path) -> None:
    number = last_layer(folder)
    more = {layer(number + 1, part): tensor(folder, layer(number, part)) for part in _PARTS}
    put_tensors(folder, more)


def _biases_missing(folder: Path) -> None:
    names = (layer(number, part) for number in range(last_layer(folder) + 1) for part in _BIASES)
    put_tensors(folder, dict.fromkeys(names))


def _biases_unexpected(folder: Path) -> None:
    num_heads, num_kv_heads, head_dim = heads(folder)
    norm = tensor(folder, FINAL_NORM)
    for part, count in zip(_BIASES, (num_heads, num_kv_heads, num_kv_heads), strict=True):
        ones = np.full(count * head_dim, norm.one, norm.bits.dtype)
        put_tensors(folder, {layer(0, part): Bits(dtype=norm.dtype, bits=ones)})


def _other_head(folder: Path) -> None:
    put_tensors(folder, {HEAD: other_weights(tensor(folder, EMBEDDING))})


def _renamed(folder: Path) -> None:
    # The names of an older export, without the prefix that the class has.
    name = layer(0, _DOWN)
    put_tensors(folder, {name: None, name.removeprefix("model."): tensor(folder, name)})


def _one_value(bits: np.ndarray) -> np.ndarray:
    return bits[:1]


def _set_one(kind: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        name = layer(last_layer(folder), _DOWN)
        found = tensor(folder, name)
        bits = found.bits.copy()
        bits[len(bits) // 2, 1] = getattr(found, kind)
        put_tensors(folder, {name: Bits(dtype=found.dtype, bits=bits)})

    return edit


def _as_int8(folder: Path) -> None:
    # What a quantiser stores beside a scale that lies elsewhere.
    name = layer(last_layer(folder), _DOWN)
    values = tensor(folder, name).values()
    rounded = np.round(values * (127 / np.abs(values).max())).astype(np.int8)
    put_tensors(folder, {name: Bits(dtype="I8", bits=rounded.view(np.uint8))})


_fault = partial(source_fault, "tensors")
TENSOR_FAULTS: tuple[Fault, ...] = (
    _fault(
        "tensor-missing",
        "one matrix was missing from the weights",
        _drop(layer(0, "mlp.up_proj.weight")),
        *("S-30", "S-120"),
    ),
    _fault("norm-missing", "the final norm was missing from the weights", _drop(FINAL_NORM), "S-120"),
    _fault("layer-missing", "the last layer was missing from the weights", _layer_missing, "S-120"),
    _fault("layer-too-many", "the weights had a layer more than the config", _layer_too_many, "S-31"),
    _fault(
        "tensor-renamed",
        "one matrix stood under the name that an older export gave it",
        _renamed,
        *("S-30", "S-31", "S-120"),
    ),
    _fault(
        "biases-missing",
        "the query, key and value biases were missing from the weights",
        _biases_missing,
        "S-30",
        needs=has_biases,
    ),
    _fault(
        "biases-unexpected",
        "the weights had query, key and value biases that the architecture has not",
        _biases_unexpected,
        *("S-30", "S-31"),
        needs=has_no_biases,
    ),
    _fault(
        "head-missing",
        "the head of an untied model was missing from the weights",
        _drop(HEAD),
        *("S-27", "S-120"),
        needs=is_untied,
    ),
    source_fault(
        "config",
        "head-contradicts",
        "a tied model stored a head that is not its embedding",
        _other_head,
        *("S-28", "S-29"),
        needs=is_tied,
    ),
    _fault(
        "transposed",
        "a matrix was stored transposed",
        _on_last(_DOWN, np.transpose),
        *("S-32", "S-57"),
        quick=True,
    ),
    _fault(
        "reshaped",
        "a matrix was stored with its two sizes exchanged and its numbers in their order",
        _on_last(_DOWN, lambda bits: bits.reshape(bits.shape[::-1])),
        "S-32",
    ),
    _fault(
        "norm-broadcast",
        "a norm was stored as the one number that stands for all",
        _on_last(_NORM, _one_value),
        "S-129",
    ),
    _fault(
        "norm-extra-axis",
        "a norm was stored as a matrix of one row",
        _on_last(_NORM, lambda bits: bits[None]),
        *("S-96", "S-129"),
    ),
    _fault(
        "row-broadcast",
        "a matrix was stored as its first row",
        _on_last(_DOWN, _one_value),
        "S-129",
    ),
    _fault("nan", "one weight was NaN", _set_one("nan"), "S-124", quick=True),
    _fault("infinite", "one weight was infinite", _set_one("infinity"), "S-124"),
    _fault("int8", "one matrix was stored as 8-bit integers, without their scale", _as_int8, "S-39"),
)
