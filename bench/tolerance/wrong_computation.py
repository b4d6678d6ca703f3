"""Faults of the forward pass itself: only its figures can show them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

from apr.model.decoder import MLP, Block, RMSNorm
from apr.model.rope import inverse_frequencies, rope_tables
from bench.tolerance.attention import Forward, Way, attending, forwards
from bench.tolerance.fault import Fault, Plant, Site, rewritten
from bench.tolerance.wrong_config import LENGTH, norms, roped


def _tables_of(frequencies: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    angles = torch.outer(positions, frequencies)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def _rope_of(
    positions: Callable[[Tensor], Tensor] = lambda p: p, frequencies: Callable[[Tensor], Tensor] = lambda f: f
) -> Plant:
    places = torch.arange(LENGTH, dtype=torch.float32)
    return roped(lambda config: _tables_of(frequencies(inverse_frequencies(config)), positions(places)))


def _rounded(x: Tensor) -> Tensor:
    return x.bfloat16().float()


def _attention(layers: Callable[[Site], slice] = lambda site: slice(None), **way: object) -> Plant:
    return lambda site: attending(site.decoder, Way(**way), layers(site))


def _middle(site: Site) -> slice:
    return slice(site.middle, site.middle + 1)


def _first(site: Site) -> slice:
    return slice(0, 1)


def _mlp(activation: Callable[[Tensor], Tensor], layers: Callable[[Site], slice]) -> Plant:
    def make(mlp: MLP) -> Forward:
        return lambda x: mlp.down_proj(activation(mlp.gate_proj(x)) * mlp.up_proj(x))

    return lambda site: forwards([block.mlp for block in list(site.decoder.model.layers)[layers(site)]], make)


def _narrow(mlp: MLP) -> Forward:
    return lambda x: mlp.down_proj(F.silu(mlp.gate_proj(x.bfloat16())) * mlp.up_proj(x.bfloat16())).to(
        x.dtype
    )


def _every(site: Site) -> slice:
    return slice(None)


def _norm(wrong: Callable[[RMSNorm, Tensor], Tensor], last_only: bool = False) -> Plant:
    def make(norm: RMSNorm) -> Forward:
        return lambda x: wrong(norm, x)

    return lambda site: forwards([site.decoder.model.norm] if last_only else norms(site.decoder), make)


def _eps_outside(norm: RMSNorm, x: Tensor) -> Tensor:
    wide = x.float()
    return (norm.weight * wide / (wide.square().mean(-1, keepdim=True).sqrt() + norm.eps)).to(x.dtype)


def _centred(norm: RMSNorm, x: Tensor) -> Tensor:
    wide = x.float()
    wide = wide - wide.mean(-1, keepdim=True)
    return (norm.weight * wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + norm.eps)).to(x.dtype)


def _in_bf16(norm: RMSNorm, x: Tensor) -> Tensor:
    narrow = x.bfloat16()
    root = torch.rsqrt(narrow.square().mean(-1, keepdim=True) + norm.eps)
    return (norm.weight.bfloat16() * (narrow * root)).to(x.dtype)


def _parallel(block: Block) -> Forward:
    """Attention and MLP beside each other, as GPT-J has them."""

    def forward(
        x: Tensor, rope: tuple[Tensor, Tensor], cache: object, layer: int, mask: Tensor | None = None
    ) -> Tensor:
        attended = block.self_attn(block.input_layernorm(x), rope, cache, layer, mask)
        return x + attended + block.mlp(block.post_attention_layernorm(x))

    return forward


@contextmanager
def _head(site: Site, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    site.head = change(site.decoder.head_weight.detach())
    yield


def _embedding(change: Callable[[Tensor], Tensor]) -> Plant:
    """The input only: the head keeps the right matrix."""

    @contextmanager
    def plant(site: Site) -> Iterator[None]:
        site.head = site.decoder.head_weight.detach().clone()
        with rewritten(site.decoder, {"model.embed_tokens.weight": lambda w: w.copy_(change(w.detach()))}):
            yield

    return plant


def _computation(name: str, plant: Plant, harmless: bool = False) -> Fault:
    return Fault(name=name, kind="computation", plant=plant, harmless=harmless)


COMPUTATION_FAULTS = (
    _computation("positions start at 1", _rope_of(lambda p: p + 1), harmless=True),
    _computation("positions times 1.01", _rope_of(lambda p: p * 1.01)),
    _computation("queries one position later than keys", _attention(query_shift=1)),
    _computation("rope tables in bf16", roped(lambda c: tuple(map(_rounded, rope_tables(c, LENGTH))))),
    _computation("rope frequencies in bf16", _rope_of(frequencies=_rounded)),
    _computation("rope positions in bf16", _rope_of(_rounded)),
    _computation("rope pairs adjacent", _attention(adjacent=True)),
    _computation("rope pairs adjacent, middle layer", _attention(_middle, adjacent=True)),
    _computation("no rope in the middle layer", _attention(_middle, turned=False)),
    _computation("key-value groups repeated, not interleaved", _attention(interleave=False)),
    _computation("key-value groups repeated, middle layer", _attention(_middle, interleave=False)),
    _computation("attention scale + 1 %", _attention(scale=1.01)),
    _computation("attention scale + 1 %, middle layer", _attention(_middle, scale=1.01)),
    _computation("attention scale + 0.1 %", _attention(scale=1.001)),
    _computation("causal mask missing", _attention(causal=False)),
    _computation("causal mask missing, first layer", _attention(_first, causal=False)),
    _computation("causal mask sees one ahead", _attention(sees_to=1)),
    _computation("causal mask sees one ahead, middle layer", _attention(_middle, sees_to=1)),
    _computation("window of 256", _attention(window=256)),
    _computation("window of 256, middle layer", _attention(_middle, window=256)),
    _computation("window one less than the probe", _attention(window=383)),
    _computation("softmax in bf16", _attention(softmax_dtype=torch.bfloat16)),
    _computation("softmax in bf16, middle layer", _attention(_middle, softmax_dtype=torch.bfloat16)),
    _computation("attention dropout 0.1 active", _attention(dropout=0.1)),
    _computation("attention dropout 0.1 active, middle layer", _attention(_middle, dropout=0.1)),
    _computation("gelu (tanh) for silu", _mlp(lambda x: F.gelu(x, approximate="tanh"), _every)),
    _computation("gelu (exact) for silu", _mlp(F.gelu, _every)),
    _computation("gelu (exact) for silu, middle layer", _mlp(F.gelu, _middle)),
    _computation("silu of 1.01 x, all layers", _mlp(lambda x: x * torch.sigmoid(1.01 * x), _every)),
    _computation(
        "products of one MLP in bf16",
        lambda site: forwards([site.decoder.model.layers[site.middle].mlp], _narrow),
    ),
    _computation(
        "products of the last MLP in bf16",
        lambda site: forwards([site.decoder.model.layers[site.last].mlp], _narrow),
    ),
    _computation("final norm skipped", _norm(lambda norm, x: x, last_only=True)),
    _computation("eps outside the root", _norm(_eps_outside)),
    _computation("norms centred as LayerNorm", _norm(_centred)),
    _computation("norms in bf16", _norm(_in_bf16)),
    _computation("final norm in bf16", _norm(_in_bf16, last_only=True)),
    _computation(
        "attention and MLP in parallel, middle layer",
        lambda site: forwards([site.decoder.model.layers[site.middle]], _parallel),
    ),
    _computation("logits + 1 %", lambda site: _head(site, lambda w: w * 1.01)),
    _computation("head in bf16", lambda site: _head(site, _rounded)),
    _computation("embedding output in bf16", _embedding(_rounded)),
    _computation("embedding output + 1 %", _embedding(lambda w: w * 1.01)),
)
