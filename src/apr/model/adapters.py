"""The decoder behind the plain functions that evals and step zero take: they must work with any module."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from apr.model.cache import KVCache
from apr.model.decoder import Decoder, Observer
from apr.model.loss import next_token_loss


def loss_sum(decoder: Decoder, dtype: torch.dtype) -> Callable[[Tensor, Tensor], float]:
    """Make the function (inputs [B, T], targets [B, T]) -> summed loss in nats, computed in `dtype`."""

    def score(inputs_BT: Tensor, targets_BT: Tensor) -> float:
        device = decoder.head_weight.device
        with torch.no_grad():
            hidden = decoder.hidden(inputs_BT.to(device), dtype=dtype)
            return float(next_token_loss(hidden, decoder.head_weight, targets_BT.to(device), 1.0))

    return score


def tracer(decoder: Decoder) -> Callable[[Tensor, Observer], Tensor]:
    """Make the function (ids [1, T], observe) -> fp32 logits [1, T, V] that reports every hidden state."""

    def trace(ids_BT: Tensor, observe: Observer) -> Tensor:
        with torch.no_grad():
            hidden = decoder.hidden(ids_BT.to(decoder.head_weight.device), observe=observe)
            return torch.nn.functional.linear(hidden, decoder.head_weight)

    return trace


def next_logits(decoder: Decoder, *, capacity: int, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Make the function (new ids [1, T]) -> logits [V] of the last position, with a cache of `capacity` tokens."""
    cache = KVCache(decoder.config, batch_size=1, capacity=capacity, dtype=dtype)

    def score(ids_BT: Tensor) -> Tensor:
        with torch.no_grad():
            hidden = decoder.hidden(ids_BT, dtype=dtype, cache=cache)
            return torch.nn.functional.linear(hidden[0, -1], decoder.head_weight.to(dtype))

    return score
