"""Leaving another program's module and optimizer as they were, bit for bit."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Give back random states, training flags, gradients and buffers as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    training = {part: part.training for part in module.modules()}
    gradients = {parameter: parameter.grad for parameter in module.parameters()}
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    devices = sorted({p.device.index or 0 for p in module.parameters() if p.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        for part, flag in training.items():
            part.training = flag
        for parameter, gradient in gradients.items():
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


@contextmanager
def kept(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Give back an optimizer's groups and state as they were: the same tensors, with the same bits."""
    groups = [{k: _saved(v) for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    state = {key: {k: _saved(v) for k, v in held.items()} for key, held in optimizer.state.items()}
    called = vars(optimizer).get("_opt_called")  # a schedule's own note that a step was made
    try:
        yield
    finally:
        for group, saved in zip(optimizer.param_groups, groups, strict=True):
            params = group["params"]
            group.clear()
            group |= {"params": params, **{k: _restored(pair) for k, pair in saved.items()}}
        optimizer.state.clear()
        for key, held in state.items():
            optimizer.state[key] = {k: _restored(pair) for k, pair in held.items()}
        if called is None:
            vars(optimizer).pop("_opt_called", None)
        else:
            vars(optimizer)["_opt_called"] = called


def _saved(value: Any) -> tuple[Any, Any]:
    return value, value.detach().clone() if isinstance(value, Tensor) else copy.deepcopy(value)


def _restored(pair: tuple[Any, Any]) -> Any:
    value, before = pair
    if not isinstance(value, Tensor):
        return before
    with torch.no_grad():
        return value.copy_(before)
