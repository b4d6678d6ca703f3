"""Faults of a source folder that is well formed: its weights are simply not those that were published.

Names, shapes and numbers are plausible, and nothing in the folder contradicts the rest. What tells such a folder from
the published one is a digest that came another way.
"""

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
    Bits,
    change_bits,
    heads,
    last_layer,
    layer,
    other_weights,
    put_tensors,
    read_tensors,
    shard,
    tensor,
    tensor_names,
    write_tensors,
)
from apr.stepzero.faults.planting import source_fault
from apr.stepzero.faults.source_weights import has_biases

_DOWN = "mlp.down_proj.weight"
_Q, _K, _V = (f"self_attn.{name}_proj.weight" for name in "qkv")


def _has_two_layers(config: Any) -> bool:
    return bool(config.num_hidden_layers > 1)


def _has_square_output(config: Any) -> bool:
    return bool(config.num_attention_heads * config.head_dim == config.hidden_size)


def _has_groups(config: Any) -> bool:
    return bool(config.num_key_value_heads > 1)


def _on_first(part: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda folder: change_bits(folder, layer(0, part), change)


def _exchange(one: str, other: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        first, second = layer(0, one), layer(0, other)
        put_tensors(folder, {first: tensor(folder, second), second: tensor(folder, first)})

    return edit


def _parts(folder: Path) -> list[str]:
    begin = layer(0, "")
    return [name.removeprefix(begin) for name in tensor_names(folder) if name.startswith(begin)]


def _layers_exchanged(folder: Path) -> None:
    last = last_layer(folder)
    changes: dict[str, Bits | None] = {}
    for part in _parts(folder):
        first, second = layer(0, part), layer(last, part)
        changes |= {first: tensor(folder, second), second: tensor(folder, first)}
    put_tensors(folder, changes)


def _layer_repeated(folder: Path) -> None:
    last = last_layer(folder)
    put_tensors(folder, {layer(last, part): tensor(folder, layer(0, part)) for part in _parts(folder)})


def _shard_of_other_run(folder: Path) -> None:
    last = shard(folder)[-1]
    write_tensors(last, {name: other_weights(found) for name, found in read_tensors(last).items()})


def _tail_zeroed(folder: Path) -> None:
    # A download that set the size first and never came to the last quarter.
    path = (shard(folder))[-1]
    found = read_tensors(path)
    names = list(found)
    for name in names[len(names) // 2 :]:
        found[name] = Bits(dtype=found[name].dtype, bits=np.zeros_like(found[name].bits))
    write_tensors(path, found)


def _bit_flipped(folder: Path) -> None:
    # The exponent's highest bit, of the greatest weight that stays finite with it.
    name = layer(0, _DOWN)
    found = tensor(folder, name)
    sizes = np.abs(found.values())
    at = np.unravel_index(np.argmax(np.where(sizes < 1, sizes, 0)), sizes.shape)
    bits = found.bits.copy()
    bits[at] ^= bits.dtype.type(1 << (8 * bits.itemsize - 2))
    put_tensors(folder, {name: Bits(dtype=found.dtype, bits=bits)})


def _mislabelled(folder: Path) -> None:
    # The bytes of bfloat16 numbers under the label of float16.
    name = layer(0, _DOWN)
    values = np.ascontiguousarray(tensor(folder, name).values())
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    put_tensors(folder, {name: Bits(dtype="F16", bits=bits)})


def _rows_interleaved(folder: Path) -> None:
    # The order that llama.cpp keeps: the two halves of a head, row by row in turn.
    num_heads, num_kv_heads, _ = heads(folder)
    for number in range(last_layer(folder) + 1):
        for part, count in ((_Q, num_heads), (_K, num_kv_heads)):
            name = layer(number, part)
            found = tensor(folder, name)
            shape = found.bits.shape
            turned = found.bits.reshape(count, 2, -1, shape[1]).swapaxes(1, 2).reshape(shape)
            put_tensors(folder, {name: Bits(dtype=found.dtype, bits=turned)})


def _heads_rolled(folder: Path) -> None:
    # The queries of every group of heads meet the keys and values of the next group.
    _, num_kv_heads, _ = heads(folder)
    for number in range(last_layer(folder) + 1):
        change_bits(folder, layer(number, _Q), lambda bits: np.roll(bits, len(bits) // num_kv_heads, axis=0))


def _biases_zeroed(folder: Path) -> None:
    names = [name for name in tensor_names(folder) if name.endswith("_proj.bias")]
    for name in names:
        change_bits(folder, name, np.zeros_like)


_fault = partial(source_fault, "trust")
CONTENT_FAULTS: tuple[Fault, ...] = (
    _fault(
        "shard-of-other-run",
        "one shard came from another run of the same model",
        _shard_of_other_run,
        "S-127",
        quick=True,
    ),
    _fault(
        "layers-exchanged", "two layers were exchanged", _layers_exchanged, "S-127", needs=_has_two_layers
    ),
    _fault(
        "layer-repeated",
        "the first layer was stored as the last one too",
        _layer_repeated,
        "S-127",
        needs=_has_two_layers,
    ),
    _fault(
        "embedding-shifted",
        "the rows of the embedding were shifted by one",
        lambda folder: change_bits(folder, EMBEDDING, lambda bits: np.roll(bits, 1, axis=0)),
        "S-127",
        quick=True,
    ),
    _fault("bit-flipped", "one exponent bit of one weight was flipped", _bit_flipped, "S-127"),
    _fault("matrix-zeroed", "a matrix was all zeros", _on_first(_DOWN, np.zeros_like), *("S-89", "S-127")),
    _fault(
        "matrix-constant",
        "a matrix was one number throughout",
        _on_first(_DOWN, lambda bits: np.full_like(bits, bits[0, 0])),
        "S-89",
    ),
    _fault("tail-zeroed", "the last tensors of the download were zeros", _tail_zeroed, "S-89"),
    _fault(
        "norm-zeroed",
        "the final norm was all zeros",
        lambda folder: change_bits(folder, FINAL_NORM, np.zeros_like),
        "S-89",
    ),
    _fault(
        "square-transposed",
        "a square matrix was stored transposed",
        _on_first("self_attn.o_proj.weight", lambda bits: bits.T),
        *("S-32", "S-57"),
        needs=_has_square_output,
    ),
    _fault(
        "rows-interleaved",
        "the rows of queries and keys were in the order that GGUF files have",
        _rows_interleaved,
        "S-51",
    ),
    _fault(
        "heads-rolled",
        "the query heads were stored one group of heads further on",
        _heads_rolled,
        *("S-32", "S-127"),
        needs=_has_groups,
    ),
    _fault("key-value-exchanged", "keys and values of a layer were exchanged", _exchange(_K, _V), "S-127"),
    _fault(
        "gate-up-exchanged",
        "gate and up projection of a layer were exchanged",
        _exchange("mlp.gate_proj.weight", "mlp.up_proj.weight"),
        "S-127",
    ),
    _fault(
        "norms-exchanged",
        "the two norms of a layer were exchanged",
        _exchange("input_layernorm.weight", "post_attention_layernorm.weight"),
        "S-127",
    ),
    _fault("mislabelled", "the bytes of a bfloat16 matrix were labelled as float16", _mislabelled, "S-39"),
    _fault(
        "biases-zeroed",
        "the query, key and value biases were all zeros",
        _biases_zeroed,
        *("S-30", "S-54"),
        needs=has_biases,
    ),
)
