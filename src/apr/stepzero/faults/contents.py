"""Faults of an `.apr` file that is whole: another writer put the wrong thing in, with checksums that hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from apr.arch.inventory import EMBEDDING, FINAL_NORM, HEAD
from apr.stepzero.faults.aprfiles import Contents, Stored, rewriting
from apr.stepzero.faults.fault import Fault
from apr.stepzero.faults.values import adjacent_pairs, rounded_to_8_bits, turned


def _fault(
    name: str, gate: str, says: str, edit: Callable[[Contents], None], imitates: tuple[str, ...], **more: Any
) -> Fault:
    return Fault(
        id=f"container.{name}",
        imitates=imitates,
        place="container",
        gate=gate,
        says=says,
        edit=rewriting(edit),
        **more,
    )


def _drop(contents: Contents) -> None:
    del contents.tensors[contents.middle("mlp.up_proj.weight")]


def _add(contents: Contents) -> None:
    contents.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = contents.tensors[FINAL_NORM]


def _drop_biases(contents: Contents) -> None:
    for name in [name for name in contents.tensors if name.endswith("_proj.bias")]:
        del contents.tensors[name]


def _reshape(suffix: str, shape: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Callable[[Contents], None]:
    def edit(contents: Contents) -> None:
        name = contents.middle(suffix)
        before = contents.tensors[name]
        values = before.wide().reshape(-1)
        wanted = shape(before.shape)
        size = int(np.prod(wanted))

        def produce() -> np.ndarray:
            return np.ascontiguousarray(values[:size].reshape(wanted), dtype="<f4")

        contents.tensors[name] = Stored(dtype="F32", shape=wanted, produce=produce, wide=produce)

    return edit


def _change(suffix: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Contents], None]:
    return lambda contents: contents.change(contents.middle(suffix), change)


def _embedding(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Contents], None]:
    return lambda contents: contents.change(EMBEDDING, change)


def _one(values: np.ndarray, value: float) -> np.ndarray:
    values.reshape(-1)[values.size // 2] = value
    return values


def _exchange(contents: Contents) -> None:
    a, b = "model.layers.0.", "model.layers.1."
    for name in [name for name in contents.tensors if name.startswith(a)]:
        twin = b + name.removeprefix(a)
        contents.tensors[name], contents.tensors[twin] = contents.tensors[twin], contents.tensors[name]


def _duplicate(contents: Contents) -> None:
    a, b = "model.layers.0.", "model.layers.1."
    for name in [name for name in contents.tensors if name.startswith(a)]:
        contents.tensors[b + name.removeprefix(a)] = contents.tensors[name]


def _own_head(contents: Contents) -> None:
    contents.tensors[HEAD] = contents.tensors[EMBEDDING]
    contents.aliases.pop(HEAD, None)
    contents.set_config(tie_word_embeddings=False)
    contents.metadata.pop("tied_embeddings", None)
    contents.metadata["param_count"] += int(np.prod(contents.tensors[HEAD].shape))


def _mislabelled(contents: Contents) -> None:
    """Write BF16 bits under the name F16, as importers of a certain month did."""
    name = contents.middle("mlp.down_proj.weight")
    before = contents.tensors[name]

    def produce() -> np.ndarray:
        bits = np.array(before.wide(), dtype="<f4").view("<u4") >> 16
        return np.ascontiguousarray(bits.astype("<u2").view("<f2"))

    contents.tensors[name] = Stored(dtype="F16", shape=before.shape, produce=produce, wide=produce)


def _encoder(contents: Contents) -> None:
    for name in [name for name in contents.tensors if name.startswith("model.layers.")]:
        contents.tensors["encoder.layer." + name.removeprefix("model.layers.")] = contents.tensors.pop(name)


def _gguf_names(contents: Contents) -> None:
    for name in [name for name in contents.tensors if name.startswith("model.layers.")]:
        contents.tensors["blk." + name.removeprefix("model.layers.")] = contents.tensors.pop(name)


def _reference(**changes: Any) -> Callable[[Contents], None]:
    return lambda contents: contents.own["reference"].update(changes)


def _other_loss(contents: Contents) -> None:
    contents.own["reference"]["loss"] += 0.01


def _cut_reference(contents: Contents) -> None:
    contents.own["reference"]["blocks"].pop()


def _has_bias(config: Any) -> bool:
    return bool(config.attention_bias)


def _is_tied(config: Any) -> bool:
    return bool(config.tie_word_embeddings)


def _is_square(config: Any) -> bool:
    return bool(config.num_attention_heads * config.head_dim == config.hidden_size)


def _permuted(contents: Contents) -> None:
    head_dim = int(contents.config["head_dim"])
    for letter in ("q", "k"):
        contents.change(
            contents.middle(f"self_attn.{letter}_proj.weight"), lambda v: adjacent_pairs(v, head_dim)
        )


CONTENT_FAULTS: tuple[Fault, ...] = (
    _fault("tensor-missing", "weights.coverage", "a tensor was missing", _drop, ("S-120",), quick=True),
    _fault("tensor-unexpected", "weights.coverage", "a tensor was there that the model has no place for", _add, ("S-31",)),
    _fault("biases-missing", "file.config", "the biases of queries, keys and values had been dropped", _drop_biases,
           ("S-30",), needs=_has_bias),
    _fault("transposed", "weights.coverage", "a matrix was stored transposed",
           _reshape("mlp.up_proj.weight", lambda shape: shape[::-1]), ("S-32", "S-57"), quick=True),
    _fault("broadcastable", "weights.coverage", "a norm was stored as one row of a matrix",
           _reshape("input_layernorm.weight", lambda shape: (1, *shape)), ("S-96", "S-129")),
    _fault("one-value", "weights.coverage", "a norm was stored as a single value",
           _reshape("post_attention_layernorm.weight", lambda shape: (1,)), ("S-129",)),
    _fault("zero-matrix", "weights.values", "a matrix was all zero when its digest was made",
           _change("mlp.up_proj.weight", np.zeros_like), ("S-89", "S-127")),
    _fault("constant-matrix", "weights.values", "a matrix held one value when its digest was made",
           _change("self_attn.v_proj.weight", lambda v: np.full_like(v, 0.02)), ("S-89",)),
    _fault("layer-twice", "weights.values", "one layer stood in the place of two", _duplicate, ("S-127",)),
    _fault("own-head", "weights.values", "the tied head had been written as a tensor of its own", _own_head,
           ("S-27", "S-29"), needs=_is_tied),
    _fault("nan", "weights.memory", "one weight was NaN when its digest was made",
           _change("mlp.gate_proj.weight", lambda v: _one(v, np.nan)), ("S-124",), quick=True),
    _fault("infinite", "weights.memory", "one weight was infinite when its digest was made",
           _change("self_attn.k_proj.weight", lambda v: _one(v, np.inf)), ("S-124",)),
    _fault("layers-exchanged", "reference.blocks", "two layers had changed places", _exchange, ("S-127",)),
    _fault("rows-shifted", "reference.blocks", "the embedding's rows were shifted by one",
           _embedding(lambda v: np.roll(v, 1, axis=0)), ("S-127",)),
    _fault("rows-permuted", "reference.blocks", "query and key rows lay in GGUF's order", _permuted, ("S-51",)),
    _fault("square-transposed", "reference.blocks", "a square matrix lay transposed",
           _change("self_attn.o_proj.weight", turned), ("S-32", "S-57"), needs=_is_square),
    _fault("norm-of-ones", "reference.blocks", "a norm's weight had been left at one",
           _change("input_layernorm.weight", np.ones_like), ("S-120",)),
    _fault("other-run", "reference.blocks", "a matrix was of another run's checkpoint",
           _change("mlp.down_proj.weight", lambda v: v[::-1]), ("S-127",)),
    _fault("rounded", "reference.blocks", "a matrix had been through eight bits",
           _change("mlp.gate_proj.weight", rounded_to_8_bits), ("S-39", "S-94")),
    _fault("bf16-as-f16", "reference.blocks", "BF16 bytes were labelled F16", _mislabelled, ("S-39",)),
    _fault("encoder", "file.config", "the tensors were an encoder's", _encoder, ("S-26",), quick=True),
    _fault("gguf-names", "file.config", "the tensors had GGUF names, whose rows may be permuted", _gguf_names, ("S-37",)),
    _fault("reference-loss", "reference.loss", "the recorded loss was another checkpoint's", _other_loss,
           ("S-35", "S-108")),
    _fault("reference-cut", "reference.blocks", "the reference lacked its last block", _cut_reference, ("S-108",)),
    _fault("reference-nan", "file.config", "the recorded loss was no number", _reference(loss="nan"), ("S-108",)),
    _fault("reference-ids", "tokens.probe", "the reference was recorded on other ids",
           lambda contents: contents.own["reference"]["probe_ids"].reverse(), ("S-18",)),
)  # fmt: skip
