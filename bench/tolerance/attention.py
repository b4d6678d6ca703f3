"""Attention written out, with a switch for every way to compute it: the right ones are noise, the wrong ones faults."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from apr.arch.config import TransformerConfig
from apr.model.decoder import Attention, Decoder
from apr.model.rope import rope_tables, rotate

Forward = Callable[..., Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How attention is computed; the defaults are what the decoder does, by hand."""

    kernel: str = "eager"  # eager | mask (sdpa with an explicit mask) | sdpa
    scale: float = 1.0  # beside 1/sqrt(H)
    sees_to: int = 0  # diagonal of the mask: 0 is causal, 1 sees one token ahead, -1 not itself
    window: int | None = None  # keys that a query sees, itself included
    causal: bool = True
    interleave: bool = True  # query head n reads key-value head n // groups, else n % K
    adjacent: bool = False  # rotary pairs (2i, 2i + 1) instead of (i, i + H/2)
    turned: bool = True  # rotary embedding at all
    query_shift: int = 0  # positions by which queries stand later than keys
    softmax_dtype: torch.dtype | None = None  # None: fp32
    dropout: float = 0.0


def attend(module: Attention, config: TransformerConfig, way: Way) -> Forward:
    """Make the forward function of an attention module that computes in that way."""

    def forward(
        x_BTD: Tensor, rope: tuple[Tensor, Tensor], cache: Any, layer: int, mask: Tensor | None = None
    ) -> Tensor:
        B, T, _ = x_BTD.shape
        q, k, v = (
            proj(x_BTD).view(B, T, -1, module.head_dim).transpose(1, 2)
            for proj in (module.q_proj, module.k_proj, module.v_proj)
        )
        if way.turned:
            q, k = _turn(q, _later(config, rope, way.query_shift), way), _turn(k, rope, way)
        k, v = (_widen(each, module.num_query_groups, way) for each in (k, v))
        out = _mix(q, k, v, way)
        return module.o_proj(out.transpose(1, 2).reshape(B, T, -1))

    return forward


def _later(config: TransformerConfig, rope: tuple[Tensor, Tensor], shift: int) -> tuple[Tensor, Tensor]:
    if not shift:
        return rope
    cos, sin = rope_tables(config, rope[0].shape[0] + shift)
    return cos[shift:].to(rope[0].dtype), sin[shift:].to(rope[0].dtype)


def _turn(x_BNTH: Tensor, rope: tuple[Tensor, Tensor], way: Way) -> Tensor:
    if not way.adjacent:
        return rotate(x_BNTH, *rope)
    # Neighbours become halves, are turned, and go back.
    apart = torch.cat((x_BNTH[..., 0::2], x_BNTH[..., 1::2]), dim=-1)
    first, second = rotate(apart, *rope).chunk(2, dim=-1)
    return torch.stack((first, second), dim=-1).flatten(-2)


def _widen(x_BKTH: Tensor, groups: int, way: Way) -> Tensor:
    if way.interleave:
        return x_BKTH.repeat_interleave(groups, dim=1)
    return x_BKTH.repeat(1, groups, 1, 1)


def _mix(q: Tensor, k: Tensor, v: Tensor, way: Way) -> Tensor:
    scale = way.scale * q.shape[-1] ** -0.5
    if way.kernel == "sdpa":
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    seen = _visible(q.shape[2], way)
    if way.kernel == "mask":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale)
    scores = (q @ k.transpose(-1, -2) * scale).masked_fill(~seen, torch.finfo(q.dtype).min)
    weights = torch.softmax(scores, dim=-1, dtype=way.softmax_dtype or torch.float32).to(q.dtype)
    return F.dropout(weights, way.dropout) @ v


def _visible(length: int, way: Way) -> Tensor:
    seen = torch.ones(length, length, dtype=torch.bool)
    if way.causal:
        seen = seen.tril(way.sees_to)
    if way.window is not None:
        seen = seen.triu(1 - way.window)
    return seen


@contextmanager
def forwards(modules: Iterable[nn.Module], make: Callable[[Any], Forward]) -> Iterator[None]:
    """Give modules another forward function for a while."""
    changed = list(modules)
    for module in changed:
        module.forward = make(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


@contextmanager
def attending(decoder: Decoder, way: Way, layers: slice = slice(None)) -> Iterator[None]:
    """Let some layers attend in another way."""
    modules = [block.self_attn for block in list(decoder.model.layers)[layers]]
    torch.manual_seed(0)  # dropout
    with forwards(modules, lambda module: attend(module, decoder.config, way)):
        yield
