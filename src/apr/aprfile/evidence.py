"""What the tensors themselves say about the model, whatever the metadata claims.

Names tell the architecture, shapes the sizes. A config is contradicted only where the tensors agree among
themselves; a single tensor that differs from its neighbours is for the exact comparison with the inventory
(`apr.arch.inventory.cover`) to name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from apr.aprfile.blocks import widen
from apr.aprfile.errors import ArchContradiction, TensorNamesForeign
from apr.aprfile.reader import AprFile
from apr.arch.config import FAMILIES, TransformerConfig
from apr.arch.errors import ArchitectureUnsupported
from apr.arch.inventory import EMBEDDING, FINAL_NORM, HEAD

Shapes = Mapping[str, tuple[int, ...]]

_TRAINING_PREFIX = "__training__."
_GGUF_NAME = re.compile(r"blk\.\d+\.|token_embd\.|output_norm\.")
_LAYER = re.compile(r"model\.layers\.(\d{1,9})\.(.+)")
# A part of a name that no supported decoder has, and whose it is.
_SIGNS = (
    ("encoder.layer.", "an encoder (BERT)"),
    ("embeddings.word_embeddings", "an encoder (BERT)"),
    ("encoder.block.", "an encoder-decoder (T5)"),
    ("encoder.layers.", "an encoder-decoder"),
    ("position_embedding.", "a decoder with learned positions (GPT-2)"),
    ("transformer.h.", "GPT-2"),
    (".self_attn.q_norm.", "a decoder with normalised queries (Qwen3)"),
    (".self_attn.qkv_proj.", "a decoder with fused projections (Phi-3)"),
    (".mlp.experts.", "a mixture of experts"),
    (".pre_feedforward_layernorm.", "Gemma 2 or later"),
    (".linear_attn.", "a decoder with linear attention"),
)
_COMPARE_BYTES = 1 << 22


def model_tensors(file: AprFile) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors that the model sees: no training state, no second name of a tied head."""
    hidden = set(file.aliases)
    if not file.is_ours and head_is_copy(file):
        hidden.add(HEAD)
    return {
        name: entry.shape
        for name, entry in file.entries.items()
        if name not in hidden and not name.startswith(_TRAINING_PREFIX)
    }


def head_is_copy(file: AprFile) -> bool:
    """Whether a head is stored of its own whose every value is the embedding's, as foreign importers do."""
    head, embedding = file.entries.get(HEAD), file.entries.get(EMBEDDING)
    if head is None or embedding is None or HEAD in file.aliases or head.shape != embedding.shape:
        return False
    if {head.dtype, embedding.dtype} - {"F32", "F16", "BF16"}:
        return head.dtype == embedding.dtype and file.bytes_of(HEAD) == file.bytes_of(EMBEDDING)
    left, right = (file.array(name).reshape(-1) for name in (HEAD, EMBEDDING))
    return all(
        np.array_equal(
            widen(left[at : at + _COMPARE_BYTES], head, str(file.path)),
            widen(right[at : at + _COMPARE_BYTES], embedding, str(file.path)),
        )
        for at in range(0, left.size, _COMPARE_BYTES)
    )


def refuse_other_architectures(shapes: Shapes, source: str) -> None:
    """Refuse tensors whose names show that they are no llama-like decoder in Hugging Face's spelling.

    Raises:
        ArchitectureUnsupported, TensorNamesForeign.
    """
    for name in shapes:
        for sign, architecture in _SIGNS:
            if sign in name:
                found = f"{architecture}, as its tensor {name} shows"
                raise ArchitectureUnsupported(
                    source=source, architecture=found, supported=", ".join(FAMILIES)
                )
        if _GGUF_NAME.match(name):
            raise TensorNamesForeign(path=source, tensor=name)


def common_shape(shapes: Shapes, suffix: str) -> tuple[int, ...] | None:
    """The shape that a block's tensor has in every layer; None where there is none or the layers differ."""
    found = {
        shape for name, shape in shapes.items() if (match := _LAYER.fullmatch(name)) and match[2] == suffix
    }
    return next(iter(found)) if len(found) == 1 else None


def num_layers(shapes: Shapes) -> int:
    """Layers that the names reach."""
    return max((int(match[1]) + 1 for name in shapes if (match := _LAYER.fullmatch(name))), default=0)


def has_attention_bias(shapes: Shapes) -> bool | None:
    """Whether the query projections have biases; None where only some have."""
    weights = sum(name.endswith(".self_attn.q_proj.weight") for name in shapes)
    biases = sum(name.endswith(".self_attn.q_proj.bias") for name in shapes)
    return None if 0 < biases < weights else biases > 0


def check_against_tensors(config: TransformerConfig, shapes: Shapes, source: str) -> None:
    """Compare a config with the names and shapes of the tensors.

    Args:
        config: what the file says.
        shapes: what `model_tensors` gives: a tied head is not in it.
        source: where they came from, for messages.

    Raises:
        ArchContradiction: naming every field that differs, with both values.
    """
    evidence = _evidence(shapes)
    claims = _claims(config)
    differing = [name for name, found in evidence.items() if found is not None and found != claims[name]]
    if differing:
        listed = (f"{name} is {claims[name]} there and {evidence[name]} in the tensors" for name in differing)
        raise ArchContradiction(source=source, fields=", ".join(differing), differences="; ".join(listed))


def _claims(config: TransformerConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads * head_dim": config.num_attention_heads * config.head_dim,
        "num_key_value_heads * head_dim": config.num_key_value_heads * config.head_dim,
        "attention_bias": config.attention_bias,
        "tie_word_embeddings": config.tie_word_embeddings,
    }


def _evidence(shapes: Shapes) -> dict[str, Any]:
    embedding, head = shapes.get(EMBEDDING), shapes.get(HEAD)
    norms = (shapes.get(FINAL_NORM), common_shape(shapes, "input_layernorm.weight"))
    return {
        "vocab_size": _agreed(_axis(embedding, 0), _axis(head, 0)),
        "hidden_size": _agreed(_axis(embedding, 1), _axis(head, 1), *(_axis(norm, 0) for norm in norms)),
        "intermediate_size": _axis(common_shape(shapes, "mlp.gate_proj.weight"), 0),
        "num_hidden_layers": num_layers(shapes),
        "num_attention_heads * head_dim": _axis(common_shape(shapes, "self_attn.q_proj.weight"), 0),
        "num_key_value_heads * head_dim": _axis(common_shape(shapes, "self_attn.k_proj.weight"), 0),
        "attention_bias": has_attention_bias(shapes),
        "tie_word_embeddings": head is None,
    }


def _axis(shape: tuple[int, ...] | None, axis: int) -> int | None:
    return shape[axis] if shape is not None and len(shape) > axis else None


def _agreed(*sizes: int | None) -> int | None:
    known = {size for size in sizes if size is not None}
    return known.pop() if len(known) == 1 else None
