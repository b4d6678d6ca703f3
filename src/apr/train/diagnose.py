"""Why a block differs from the reference: change one thing, and see whether it would agree.

Costs a few passes up to the block that differs, and only when a run is refused anyway: what a tired person wants to
read is "with a rope base of 1,000,000 it would agree", and not a difference of 0.31.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from apr.arch.config import TransformerConfig
from apr.model.adapters import tracer
from apr.model.decoder import Attention, Decoder, RMSNorm
from apr.stepzero.figures import block_figures, relative_difference
from apr.stepzero.reference import BLOCK_TOLERANCE, Reference

_ROPE_BASES = (1e4, 1e5, 5e5, 1e6, 1e7)  # of the published models of these families
_EPSILONS = (1e-5, 1e-6)
_CLOSER = 10.0  # a change that takes away all but a tenth of the difference is told too, as a likely part of the cause


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hypothesis:
    """A change under which the block may agree. `change` makes it, on a decoder that is put back afterwards."""

    says: str
    change: Callable[[Decoder], None]


class _Reached(Exception):
    """The block has been seen: what follows is not computed."""


def likely_cause(decoder: Decoder, reference: Reference, block: str) -> str:
    """Name the one change under which a block would agree with the reference; empty where none is found.

    Args:
        decoder: as it was judged; the same afterwards.
        reference: recorded at import.
        block: the first that differs.
    """
    names = [item["name"] for item in reference.blocks]
    expected = reference.blocks[names.index(block)]
    ids = torch.tensor([reference.probe_ids], dtype=torch.int64)
    before = _difference(decoder, ids, block, expected)
    found: list[tuple[float, str]] = []
    for hypothesis in _hypotheses(decoder, block):
        with _put_back(decoder, block):
            hypothesis.change(decoder)
            found.append((_difference(decoder, ids, block, expected), hypothesis.says))
    gap, says = min(found, default=(before, ""))
    if gap <= BLOCK_TOLERANCE:
        return f"{says} it would agree"
    return f"{says} it would be much closer" if gap * _CLOSER < before else ""


def _difference(decoder: Decoder, ids: Tensor, block: str, expected: dict[str, Any]) -> float:
    figures: list[dict[str, Any]] = []

    def observe(name: str, hidden: Tensor) -> None:
        if name == block:
            figures.append(block_figures(name, hidden[0]))
            raise _Reached

    try:
        tracer(decoder)(ids, observe)
    except _Reached:
        return relative_difference(expected, figures[0])[1]
    return float("inf")


@contextmanager
def _put_back(decoder: Decoder, block: str) -> Iterator[None]:
    """Restore config, norms and the layer's tensors when the block ends."""
    config = decoder.config
    norms = _norms(decoder)
    epsilons = [norm.eps for norm in norms]
    widths = [attention.head_dim for attention in _attentions(decoder)]
    kept = {name: value.detach().clone() for name, value in _layer_of(decoder, block).items()}
    try:
        yield
    finally:
        _use_config(decoder, config)
        for norm, eps in zip(norms, epsilons, strict=True):
            norm.eps = eps
        for attention, width in zip(_attentions(decoder), widths, strict=True):
            attention.head_dim = width
        with torch.no_grad():
            for name, value in _layer_of(decoder, block).items():
                value.copy_(kept[name])


def _layer_of(decoder: Decoder, block: str) -> dict[str, Tensor]:
    if not block.startswith("block."):
        return {}
    return dict(decoder.model.layers[int(block.removeprefix("block."))].named_parameters())


def _norms(decoder: Decoder) -> list[RMSNorm]:
    return [part for part in decoder.modules() if isinstance(part, RMSNorm)]


def _attentions(decoder: Decoder) -> list[Attention]:
    return [part for part in decoder.modules() if isinstance(part, Attention)]


def _use_config(decoder: Decoder, config: TransformerConfig) -> None:
    decoder.config = config
    decoder.forget_rope()


def _hypotheses(decoder: Decoder, block: str) -> Iterator[_Hypothesis]:
    config = decoder.config
    for eps in _EPSILONS:
        yield _Hypothesis(says=f"with a norm epsilon of {eps:g}", change=partial(_set_eps, eps=eps))
    if not block.startswith("block."):
        return
    if block == "block.0":
        for base in _ROPE_BASES:
            other = replace(config, rope_theta=base)
            yield _Hypothesis(
                says=f"with a rope base of {base:,.0f}", change=partial(_use_config, config=other)
            )
        if config.rope_scaling is not None:
            plain = replace(config, rope_scaling=None)
            yield _Hypothesis(says="without rope scaling", change=partial(_use_config, config=plain))
        yield _Hypothesis(
            says="with half as many heads, twice as wide,", change=partial(_set_heads, factor=2.0)
        )
        yield _Hypothesis(
            says="with twice as many heads, half as wide,", change=partial(_set_heads, factor=0.5)
        )
    layer = _layer_of(decoder, block)
    number = block.removeprefix("block.")
    for letters in ("qk", "q", "k"):
        names = [f"self_attn.{letter}_proj.weight" for letter in letters]
        where = f"the rows of {' and '.join(letters)} of layer {number}"
        for says, order in (("in GGUF's order", _interleaved), ("out of GGUF's order", _halved)):
            yield _Hypothesis(
                says=f"with {where} {says}", change=_reorder(block, names, config.head_dim, order)
            )
    for name, value in layer.items():
        where = f"model.layers.{number}.{name}"
        if value.dim() == 2 and value.shape[0] == value.shape[1]:
            yield _Hypothesis(
                says=f"with {where} transposed", change=_edit(block, name, lambda v: v.T.clone())
            )
        if name.endswith("bias"):
            yield _Hypothesis(says=f"without {where}", change=_edit(block, name, torch.zeros_like))
        if "norm" in name:
            yield _Hypothesis(says=f"with 1 added to {where}", change=_edit(block, name, lambda v: v + 1))


def _set_eps(decoder: Decoder, eps: float) -> None:
    for norm in _norms(decoder):
        norm.eps = eps


def _set_heads(decoder: Decoder, factor: float) -> None:
    width = int(decoder.config.head_dim * factor)
    heads = (decoder.config.num_attention_heads, decoder.config.num_key_value_heads)
    if width % 2 or (factor > 1 and any(count % 2 for count in heads)):
        return  # no such heads can be
    _use_config(decoder, replace(decoder.config, head_dim=width))
    for attention in _attentions(decoder):
        attention.head_dim = width


def _edit(block: str, name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Decoder], None]:
    def edit(decoder: Decoder) -> None:
        with torch.no_grad():
            value = _layer_of(decoder, block)[name]
            value.copy_(change(value))

    return edit


def _reorder(
    block: str, names: list[str], head_dim: int, order: Callable[[Tensor], Tensor]
) -> Callable[[Decoder], None]:
    def change(value: Tensor) -> Tensor:
        return order(value.view(-1, head_dim, value.shape[1])).reshape(value.shape)

    def edit(decoder: Decoder) -> None:
        for name in names:
            _edit(block, name, change)(decoder)

    return edit


def _interleaved(heads: Tensor) -> Tensor:
    """[N, H, D] of split halves in the order of neighbouring pairs."""
    return heads.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


def _halved(heads: Tensor) -> Tensor:
    """[N, H, D] of neighbouring pairs in the order of split halves."""
    return heads.unflatten(1, (-1, 2)).transpose(1, 2).flatten(1, 2)
