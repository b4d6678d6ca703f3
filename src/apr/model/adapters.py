"""The decoder behind the plain functions that evals and step zero take: they must work with any module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from apr.model.cache import KVCache
from apr.model.decoder import Block, Decoder, Observer
from apr.model.loss import next_token_loss


def loss_sum(decoder: Decoder, dtype: torch.dtype) -> Callable[..., float]:
    """Make the function (inputs, targets, documents if any; all [B, T]) -> summed loss in nats, in `dtype`."""

    def score(inputs_BT: Tensor, targets_BT: Tensor, documents_BT: Tensor | None = None) -> float:
        device = decoder.head_weight.device
        documents_BT = None if documents_BT is None else documents_BT.to(device)
        with torch.no_grad():
            hidden = decoder.hidden(inputs_BT.to(device), dtype=dtype, documents_BT=documents_BT)
            return float(next_token_loss(hidden, decoder.head_weight, targets_BT.to(device), 1.0))

    return score


def tracer(decoder: Decoder) -> Callable[[Tensor, Observer], Tensor]:
    """Make the function (ids [1, T], observe) -> fp32 logits [1, T, V] that reports every hidden state."""

    def trace(ids_BT: Tensor, observe: Observer) -> Tensor:
        with torch.no_grad():
            hidden = decoder.hidden(ids_BT.to(decoder.head_weight.device), observe=observe)
            return torch.nn.functional.linear(hidden, decoder.head_weight)

    return trace


def hidden_states(
    decoder: Decoder, dtype: torch.dtype, documents_of: Callable[[Tensor], Tensor] | None = None
) -> Callable[[Tensor], Tensor]:
    """Make the function (ids [B, T]) -> final hidden states [B, T, D] in the compute type.

    Args:
        decoder: the model.
        dtype: compute type.
        documents_of: tells the document of each token from the ids [B, T]; None for no document mask.
    """

    def compute(ids_BT: Tensor) -> Tensor:
        device = decoder.head_weight.device
        documents_BT = None if documents_of is None else documents_of(ids_BT).to(device)
        with torch.no_grad():
            return decoder.hidden(ids_BT.to(device), dtype=dtype, documents_BT=documents_BT)

    return compute


def built_facts(decoder: Decoder) -> dict[str, Any]:
    """Read back what the module was built as, by config field, from its parts and not from its config."""
    layers = [layer for layer in decoder.model.layers if isinstance(layer, Block)]
    attentions = [layer.self_attn for layer in layers]
    norms = [
        decoder.model.norm,
        *(n for b in layers for n in (b.input_layernorm, b.post_attention_layernorm)),
    ]
    num_heads = [a.q_proj.weight.shape[0] // a.head_dim for a in attentions]
    found: dict[str, list[Any]] = {
        "vocab_size": [decoder.model.embed_tokens.weight.shape[0], decoder.head_weight.shape[0]],
        "hidden_size": [decoder.model.embed_tokens.weight.shape[1], decoder.head_weight.shape[1]],
        "num_hidden_layers": [len(layers)],
        "intermediate_size": [layer.mlp.gate_proj.weight.shape[0] for layer in layers],
        "num_attention_heads": num_heads,
        "num_key_value_heads": [
            heads // a.num_query_groups for heads, a in zip(num_heads, attentions, strict=True)
        ],
        "head_dim": [a.head_dim for a in attentions],
        "rms_norm_eps": [norm.eps for norm in norms],
        "attention_bias": [p.bias is not None for a in attentions for p in (a.q_proj, a.k_proj, a.v_proj)],
        "tie_word_embeddings": [
            decoder.head_weight.data_ptr() == decoder.model.embed_tokens.weight.data_ptr()
        ],
    }
    return {name: _one(values) for name, values in found.items()}


def _one(values: list[Any]) -> Any:
    """The value that all parts share, or all of them in words."""
    distinct = list(dict.fromkeys(values))
    return distinct[0] if len(distinct) == 1 else " and ".join(map(str, distinct))


def rope_at(decoder: Decoder, positions: Sequence[int]) -> np.ndarray:
    """Cosines and sines that the decoder turns positions by, fp64 [2, P, H/2]."""
    cos, sin = decoder.rope_slice(0, max(positions) + 1, torch.device("cpu"), torch.float32)
    half = cos.shape[1] // 2
    rows = list(positions)
    return np.stack([cos[rows, :half].double().numpy(), sin[rows, :half].double().numpy()])


def next_logits(decoder: Decoder, *, capacity: int, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Make the function (new ids [1, T]) -> logits [V] of the last position, with a cache of `capacity` tokens."""
    cache = KVCache(decoder.config, batch_size=1, capacity=capacity, dtype=dtype)

    def score(ids_BT: Tensor) -> Tensor:
        with torch.no_grad():
            hidden = decoder.hidden(ids_BT, dtype=dtype, cache=cache)
            return torch.nn.functional.linear(hidden[0, -1], decoder.head_weight.to(dtype))

    return score
