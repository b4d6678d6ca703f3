"""AdamW with its groups, and what can be read back from it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

EPSILON = 1e-8  # the paper's and torch's


def build_optimizer(
    named_parameters: Iterable[tuple[str, Tensor]],
    *,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
) -> torch.optim.AdamW:
    """Build fused AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101); matrices decay, norms and biases do not."""
    decaying: list[Tensor] = []
    plain: list[Tensor] = []
    for _, parameter in named_parameters:
        (decaying if parameter.dim() > 1 else plain).append(parameter)
    groups = [
        {"params": decaying, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=EPSILON, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Apply a learning rate to every group."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def read_learning_rate(optimizer: torch.optim.Optimizer) -> float:
    """The learning rate that the next update will use.

    Raises:
        RuntimeError: the groups disagree, which no code here can cause.
    """
    rates = {float(group["lr"]) for group in optimizer.param_groups}
    if len(rates) != 1:
        raise RuntimeError(f"the optimizer's groups have different learning rates: {sorted(rates)}")
    return rates.pop()


def read_settings(
    optimizer: torch.optim.Optimizer, named_parameters: Iterable[tuple[str, Tensor]]
) -> dict[str, tuple[float, ...]]:
    """What the optimizer holds, by tensor: (weight decay, beta 1, beta 2, epsilon).

    A tensor is recognised by its storage, so a copy of a parameter, which would be trained in its place, shows under a
    name that no parameter has; so does one that stands in two groups.
    """
    names = {parameter.data_ptr(): name for name, parameter in named_parameters}
    found: dict[str, tuple[float, ...]] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names.get(parameter.data_ptr(), "a tensor that is not the model's")
            label = f"{name}, again" if name in found else name
            found[label] = (float(group["weight_decay"]), *map(float, group["betas"]), float(group["eps"]))
    return found


def moments(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Every moment tensor that exists; none before the first update."""
    return [
        value
        for state in optimizer.state.values()
        for key, value in state.items()
        if key != "step" and isinstance(value, Tensor)
    ]


def greatest_moment(optimizer: torch.optim.Optimizer) -> float:
    """The greatest magnitude among all moments; 0 for a fresh optimizer."""
    sizes = [float(moment.abs().max()) for moment in moments(optimizer)]
    return math.nan if any(map(math.isnan, sizes)) else max(sizes, default=0.0)


def greatest_step(optimizer: torch.optim.Optimizer) -> float:
    """The greatest step count of any parameter; 0 for a fresh optimizer."""
    return max((float(state["step"]) for state in optimizer.state.values() if "step" in state), default=0.0)
