"""Faults of a module in memory, for any decoder whose tensors have Hugging Face's names: a loader put them there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from apr.arch.inventory import EMBEDDING, FINAL_NORM
from apr.stepzero.faults.values import adjacent_pairs

Spoil = Callable[[nn.Module], None]


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters by name."""
    return dict(module.named_parameters())


def num_layers(module: nn.Module) -> int:
    """Layers that the names reach."""
    return 1 + max(int(name.split(".")[2]) for name in tensors(module) if name.startswith("model.layers."))


def middle(module: nn.Module, suffix: str) -> Tensor:
    """The middle layer's tensor with that suffix."""
    return tensors(module)[f"model.layers.{num_layers(module) // 2}.{suffix}"]


@torch.no_grad()
def redrawn(module: nn.Module) -> None:
    """One matrix was not found, and has the values it was initialised with."""
    middle(module, "mlp.up_proj.weight").normal_(0.0, 0.02)


@torch.no_grad()
def all_redrawn(module: nn.Module) -> None:
    """Nothing was loaded, or initialisation ran after the loading."""
    for name, value in tensors(module).items():
        if value.dim() > 1:
            value.normal_(0.0, 0.02)
        elif name.endswith("bias"):
            value.zero_()
        else:
            value.fill_(1.0)


@torch.no_grad()
def zeroed(module: nn.Module) -> None:
    """A matrix stayed as its memory was allocated."""
    middle(module, "mlp.down_proj.weight").zero_()


@torch.no_grad()
def exchanged(module: nn.Module) -> None:
    """Two layers changed places."""
    found = tensors(module)
    for name in [name for name in found if name.startswith("model.layers.0.")]:
        a, b = found[name], found[name.replace("layers.0.", "layers.1.", 1)]
        kept = a.clone()
        a.copy_(b)
        b.copy_(kept)


@torch.no_grad()
def transposed(module: nn.Module) -> None:
    """A square matrix went in transposed."""
    value = middle(module, "self_attn.o_proj.weight")
    value.copy_(value.T.clone())


@torch.no_grad()
def shifted_rows(module: nn.Module) -> None:
    """The embedding's rows moved by one."""
    value = tensors(module)[EMBEDDING]
    value.copy_(value.roll(1, 0))


@torch.no_grad()
def through_bf16(module: nn.Module) -> None:
    """All weights went through bf16."""
    for value in tensors(module).values():
        value.copy_(value.bfloat16())


@torch.no_grad()
def one_ulp(module: nn.Module) -> None:
    """The lowest bit of one weight differs."""
    value = middle(module, "self_attn.v_proj.weight").view(-1)
    value[0] = torch.nextafter(value[0], torch.tensor(torch.inf, device=value.device))


@torch.no_grad()
def without_biases(module: nn.Module) -> None:
    """The biases stayed zero."""
    for name, value in tensors(module).items():
        if name.endswith("_proj.bias"):
            value.zero_()


@torch.no_grad()
def plain_norm(module: nn.Module) -> None:
    """The final norm kept its initial ones."""
    tensors(module)[FINAL_NORM].fill_(1.0)


@torch.no_grad()
def broadcast_norm(module: nn.Module) -> None:
    """One value was assigned to a whole norm."""
    value = middle(module, "input_layernorm.weight")
    value.fill_(float(value[0]))


@torch.no_grad()
def one_nan(module: nn.Module) -> None:
    """One weight is NaN."""
    middle(module, "mlp.gate_proj.weight").view(-1)[0] = torch.nan


@torch.no_grad()
def permuted(module: nn.Module) -> None:
    """Query rows lie in the order of neighbouring pairs."""
    value = middle(module, "self_attn.q_proj.weight")
    rows = adjacent_pairs(value.cpu().numpy(), _head_dim(module))
    value.copy_(torch.from_numpy(rows))


def _head_dim(module: nn.Module) -> int:
    sizes: list[Any] = [part.head_dim for part in module.modules() if hasattr(part, "head_dim")]
    return int(sizes[0])


@torch.no_grad()
def nudged(module: nn.Module) -> None:
    """All weights are those of a little further on in another run."""
    generator = torch.Generator().manual_seed(0)
    for value in tensors(module).values():
        value.add_(torch.randn(value.shape, generator=generator).to(value.device), alpha=1e-4)


def frozen_norms(module: nn.Module) -> None:
    """The norms were switched off for training, and nothing says so."""
    for name, value in tensors(module).items():
        if "norm" in name:
            value.requires_grad_(False)
