"""Adapters beside projections, and what becomes of them when they are merged into the weights.

A is drawn from the run's seed and the tensor's name, so that it does not depend on what else is adapted or on how many
processes train; B is zero, so that the model is at first exactly the checkpoint. A merged weight is computed in fp64
and rounded once: so it does not depend on the number of threads, and can be derived again from base and adapter.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from apr.arch.lora import ADAPTER, Lora, target_specs
from apr.model.decoder import Decoder, Linear

_PEFT_PREFIX = "base_model.model."
_PEFT_PARTS = {"a": "lora_A.weight", "b": "lora_B.weight"}
# In rehearsals B is drawn too, or nothing would be seen of A: so wide that scale B A is some 0.08 A's width, whatever
# rank and alpha are, and not so wide that an update is lost in its rounding.
_REHEARSED_STD, _WIDEST_STD = 0.08, 0.1


class Adapter(nn.Module):
    """scale * B A x, computed in the input's dtype from fp32 factors."""

    def __init__(self, in_features: int, out_features: int, lora: Lora, device: torch.device) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.empty(lora.r, in_features, device=device))
        self.b = nn.Parameter(torch.zeros(out_features, lora.r, device=device))
        self.scale = lora.scale

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in] to [..., out] in the dtype of x."""
        return F.linear(F.linear(x, self.a.to(x.dtype)), self.b.to(x.dtype)) * self.scale


def attach(decoder: Decoder, lora: Lora, seed: int) -> None:
    """Put an adapter beside every projection that `lora` names; the model computes what it did."""
    for spec in target_specs(decoder.config, lora):
        place = spec.name.removesuffix(".weight")
        projection = decoder.get_submodule(place)
        assert isinstance(projection, Linear)
        rows, columns = projection.weight.shape
        adapter = Adapter(columns, rows, lora, projection.weight.device)
        with torch.no_grad():
            adapter.a.copy_(drawn_a(f"{place}{ADAPTER}a", adapter.a.shape, seed))
        projection.adapter = adapter


def drawn_a(name: str, shape: torch.Size | tuple[int, ...], seed: int) -> Tensor:
    """Draw an A, fp32 [r, in]: uniform within 1 / sqrt(in), as PEFT draws it."""
    bound = 1 / math.sqrt(shape[1])
    return torch.empty(tuple(shape)).uniform_(-bound, bound, generator=_generator(name, seed))


def _generator(name: str, seed: int) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


def base_parameters(decoder: Decoder) -> dict[str, Tensor]:
    """Parameters that a checkpoint file holds, by name: all but the adapters'."""
    return {name: value for name, value in decoder.named_parameters() if ADAPTER not in name}


def adapter_parameters(decoder: Decoder) -> dict[str, Tensor]:
    """Parameters of the adapters, by name."""
    return {name: value for name, value in decoder.named_parameters() if ADAPTER in name}


@contextmanager
def rehearsed_start(decoder: Decoder, seed: int) -> Iterator[None]:
    """Let B be something else than zero for the length of a block: at zero, A can neither be felt nor trained."""
    rows = []
    with torch.no_grad():
        for place, projection in _adapted(decoder):
            adapter = projection.adapter
            assert isinstance(adapter, Adapter)
            std = min(_WIDEST_STD, _REHEARSED_STD / (adapter.scale * math.sqrt(adapter.b.shape[1])))
            generator = _generator(f"{place}{ADAPTER}b", seed)
            adapter.b.copy_(torch.empty(adapter.b.shape).normal_(0.0, std, generator=generator))
            rows.append(adapter.b)
    try:
        yield
    finally:
        with torch.no_grad():
            for value in rows:
                value.zero_()


def merged_weights(decoder: Decoder) -> dict[str, Tensor]:
    """The weights that do without their adapters what they did with them, fp32, by name."""
    found: dict[str, Tensor] = {}
    for place, projection in _adapted(decoder):
        adapter = projection.adapter
        assert isinstance(adapter, Adapter)
        found[f"{place}.weight"] = merged(projection.weight, adapter.a, adapter.b, adapter.scale)
    return found


@torch.no_grad()
def merged(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """W + scale B A, fp32 [out, in], rounded once.

    Args:
        weight: W, [out, in].
        a: [r, in].
        b: [out, r].
        scale: alpha / r.
    """
    return (weight.double() + scale * (b.double() @ a.double())).float()


@contextmanager
def replaced(decoder: Decoder, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Compute with other weights, and with no adapter, for the length of a block."""
    adapted = _adapted(decoder)
    kept = [(projection, projection.weight, projection.adapter) for _, projection in adapted]
    try:
        for place, projection in adapted:
            projection.adapter = None
            if (value := weights.get(f"{place}.weight")) is not None:
                projection.weight = nn.Parameter(value, requires_grad=False)
        yield
    finally:
        for projection, weight, adapter in kept:
            projection.weight, projection.adapter = weight, adapter


def _adapted(decoder: Decoder) -> list[tuple[str, Linear]]:
    return [
        (name, module)
        for name, module in decoder.named_modules()
        if isinstance(module, Linear) and module.adapter is not None
    ]


def to_peft(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name adapters as PEFT's adapter_model.safetensors does."""
    return {_PEFT_PREFIX + _peft_name(name): value.detach() for name, value in parameters.items()}


def from_peft(name: str) -> str | None:
    """Our name for a tensor of adapter_model.safetensors; None where there is none."""
    for ours, theirs in _PEFT_PARTS.items():
        if name.startswith(_PEFT_PREFIX) and name.endswith(f".{theirs}"):
            return name.removeprefix(_PEFT_PREFIX).removesuffix(f".{theirs}") + ADAPTER + ours
    return None


def _peft_name(name: str) -> str:
    place, _, part = name.partition(ADAPTER)
    return f"{place}.{_PEFT_PARTS[part]}"
