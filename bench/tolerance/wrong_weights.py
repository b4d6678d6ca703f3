"""Faults of the weights in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

from apr.arch.config import TransformerConfig
from bench.tolerance.fault import Fault, Plant, Site, always, rewritten


def _in_layer(tail: str, change: Callable[[Tensor], object], layer: int | None = None) -> Plant:
    """Change one tensor of a layer, the middle one unless another is named."""
    return lambda site: rewritten(
        site.decoder, {f"model.layers.{site.middle if layer is None else layer}.{tail}": change}
    )


def _in_all_layers(tail: str, change: Callable[[Tensor], object]) -> Plant:
    return lambda site: rewritten(
        site.decoder, {f"model.layers.{i}.{tail}": change for i in range(site.last + 1)}
    )


def _in_embedding(change: Callable[[Tensor, Site], object]) -> Plant:
    return lambda site: rewritten(
        site.decoder, {"model.embed_tokens.weight": lambda weight: change(weight, site)}
    )


def _noisy(weight: Tensor, share: float) -> Tensor:
    draw = torch.Generator().manual_seed(11)
    return weight + share * weight.std() * torch.randn(weight.shape, generator=draw)


def _flip(bit: int) -> Callable[[Tensor], object]:
    def flip(weight: Tensor) -> None:
        row, column = weight.shape[0] // 2, weight.shape[1] // 2
        bits = weight.detach().view(torch.int32)
        bits[row, column] ^= -(1 << 31) if bit == 31 else 1 << bit

    return flip


def _to_8_bits(weight: Tensor) -> None:
    step = weight.abs().amax(dim=1, keepdim=True) / 127
    weight.copy_((weight / step).round() * step)


def _exchange(weight: Tensor, one: slice, other: slice) -> None:
    kept = weight[one].clone()
    weight[one] = weight[other]
    weight[other] = kept


def _common(site: Site) -> int:
    """The token that stands most often in the probe."""
    return max(set(site.ids), key=lambda token: (site.ids.count(token), -token))


def _absent(site: Site) -> int:
    """A token that is not in the probe."""
    return next(token for token in range(1000, site.decoder.config.vocab_size) if token not in site.ids)


def _nudge_row(weight: Tensor, row: int, share: float) -> None:
    weight[row] = _noisy(weight[row], share)


def _exchange_heads(weight: Tensor, head_dim: int) -> None:
    _exchange(weight, slice(0, head_dim), slice(head_dim, 2 * head_dim))


def _permute_head(head_dim: int) -> Callable[[Tensor], object]:
    """The order that GGUF keeps for its llama family: rows of pairs as neighbours."""

    def permute(weight: Tensor) -> None:
        first, second = weight[:head_dim].clone().chunk(2)
        weight[:head_dim] = torch.stack((first, second), dim=1).flatten(0, 1)

    return permute


def _head_rows(site: Site) -> AbstractContextManager[object]:
    name = f"model.layers.{site.middle}.self_attn.q_proj.weight"
    return rewritten(site.decoder, {name: _permute_head(site.decoder.config.head_dim)})


def _two_heads(site: Site) -> AbstractContextManager[object]:
    name = f"model.layers.{site.middle}.self_attn.q_proj.weight"
    return rewritten(site.decoder, {name: lambda w: _exchange_heads(w, site.decoder.config.head_dim)})


def _layers(pair: Callable[[Site], tuple[int, int]]) -> Plant:
    @contextmanager
    def plant(site: Site) -> Iterator[None]:
        layers, (i, j) = site.decoder.model.layers, pair(site)
        layers[i], layers[j] = layers[j], layers[i]
        try:
            yield
        finally:
            layers[i], layers[j] = layers[j], layers[i]

    return plant


@contextmanager
def _untied(site: Site) -> Iterator[None]:
    site.head = _noisy(site.decoder.head_weight.detach(), 0.01)
    yield


@contextmanager
def _gate_and_up(site: Site) -> Iterator[None]:
    mlp = site.decoder.model.layers[site.middle].mlp
    mlp.gate_proj, mlp.up_proj = mlp.up_proj, mlp.gate_proj
    try:
        yield
    finally:
        mlp.gate_proj, mlp.up_proj = mlp.up_proj, mlp.gate_proj


def _biased(config: TransformerConfig) -> bool:
    return config.attention_bias


def _square(config: TransformerConfig) -> bool:
    return config.num_attention_heads * config.head_dim == config.hidden_size


_DOWN, _UP, _Q = "mlp.down_proj.weight", "mlp.up_proj.weight", "self_attn.q_proj.weight"


def _weights(name: str, plant: Plant, applies: Callable[[TransformerConfig], bool] = always) -> Fault:
    return Fault(name=name, kind="weights", plant=plant, applies=applies)


def _to_bf16(weight: Tensor) -> None:
    weight.copy_(weight.bfloat16())


_BIASES = tuple(
    fault
    for which in "qkv"
    for fault in (
        _weights(
            f"{which} bias dropped, middle layer",
            _in_layer(f"self_attn.{which}_proj.bias", Tensor.zero_),
            _biased,
        ),
        _weights(
            f"{which} bias dropped, all layers",
            _in_all_layers(f"self_attn.{which}_proj.bias", Tensor.zero_),
            _biased,
        ),
    )
)

WEIGHT_FAULTS = (
    _weights("rows of one q head in GGUF's order", _head_rows),
    _weights("two q heads of one layer exchanged", _two_heads),
    *_BIASES,
    _weights("one norm weight 0", _in_layer("input_layernorm.weight", Tensor.zero_)),
    _weights("one norm weight 1", _in_layer("input_layernorm.weight", lambda w: w.fill_(1.0))),
    _weights(
        "one channel of one norm weight 0", _in_layer("input_layernorm.weight", lambda w: w[:1].zero_())
    ),
    _weights("layers 0 and 1 exchanged", _layers(lambda site: (0, 1))),
    _weights("two middle layers exchanged", _layers(lambda site: (site.middle, site.middle + 1))),
    _weights("the last two layers exchanged", _layers(lambda site: (site.last - 1, site.last))),
    _weights("one down_proj 0", _in_layer(_DOWN, Tensor.zero_)),
    _weights("one up_proj 0", _in_layer(_UP, Tensor.zero_)),
    _weights("gate and up exchanged, middle layer", _gate_and_up),
    _weights(
        "one o_proj transposed",
        _in_layer("self_attn.o_proj.weight", lambda w: w.copy_(w.t().clone())),
        _square,
    ),
    _weights(
        "embedding rows shifted by one", _in_embedding(lambda w, site: w.copy_(w.roll(1, dims=0).clone()))
    ),
    _weights(
        "embedding of the probe's commonest token, noise 1 %",
        _in_embedding(lambda w, site: _nudge_row(w, _common(site), 0.01)),
    ),
    _weights(
        "embedding of the probe's commonest token 0", _in_embedding(lambda w, site: w[_common(site)].zero_())
    ),
    _weights(
        "embedding of a token that is not in the probe 0",
        _in_embedding(lambda w, site: w[_absent(site)].zero_()),
    ),
    _weights("one down_proj weight, lowest exponent bit", _in_layer(_DOWN, _flip(23))),
    _weights("one down_proj weight, middle exponent bit", _in_layer(_DOWN, _flip(27))),
    _weights("one down_proj weight, highest exponent bit", _in_layer(_DOWN, _flip(30))),
    _weights("one down_proj weight, sign bit", _in_layer(_DOWN, _flip(31))),
    _weights("one q_proj weight, lowest exponent bit", _in_layer(_Q, _flip(23))),
    _weights("one down_proj rounded to bf16", _in_layer(_DOWN, _to_bf16)),
    _weights("one down_proj rounded to 8 bits", _in_layer(_DOWN, _to_8_bits)),
    _weights("head untied, noise 1 %", _untied),
)
