"""Faults of loading: what is in memory is not what is in the file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from apr.stepzero.faults import modules
from apr.stepzero.faults.fault import Fault, Patch

_LOAD = "apr.train.certify:load_decoder"


def after(spoil: modules.Spoil) -> Callable[[Any], Any]:
    """Wrap a function that returns something with a `decoder`, which is spoilt then."""

    def wrap(original: Any) -> Any:
        def load(*args: Any, **kwargs: Any) -> Any:
            loaded = original(*args, **kwargs)
            spoil(loaded.decoder)
            return loaded

        return load

    return wrap


def _fault(name: str, says: str, spoil: modules.Spoil, imitates: tuple[str, ...], **more: Any) -> Fault:
    return Fault(
        id=f"loader.{name}", imitates=imitates, place="loader", gate=more.pop("gate", "weights.memory"), says=says,
        patches=(Patch(target=_LOAD, wrap=after(spoil)),), **more,
    )  # fmt: skip


def _untie(module: nn.Module) -> None:
    """Give the model a head of its own, with the embedding's values: it would be trained alone."""
    head = nn.Linear(1, 1, bias=False)
    embedding = modules.tensors(module)[modules.EMBEDDING]
    head.weight = nn.Parameter(embedding.detach().clone())
    module.lm_head = head
    module.__class__ = type(
        "Untied", (type(module),), {"head_weight": property(lambda self: self.lm_head.weight)}
    )


def _unfilled(original: Any) -> Any:
    """Leave one parameter as it was before the filling."""

    def fill(file: Any, name: str, parameter: Any) -> Any:
        size = original(file, name, parameter)
        if name.endswith("layers.0.mlp.up_proj.weight"):
            parameter.data.fill_(torch.nan)
        return size

    return fill


def _afterwards(spoil: modules.Spoil) -> Callable[[Any], Any]:
    """Spoil the weights when everything about them has been judged."""

    def wrap(original: Any) -> Any:
        def judge(court: Any, decoder: Any, *rest: Any) -> None:
            original(court, decoder, *rest)
            spoil(decoder)

        return judge

    return wrap


def _warns(original: Any) -> Any:
    """Loading says in a warning that it did something else."""

    def load(*args: Any, **kwargs: Any) -> Any:
        warnings.warn(
            "Some weights were not initialized from the checkpoint and are newly initialized", stacklevel=2
        )
        return original(*args, **kwargs)

    return load


def _logs(original: Any) -> Any:
    """Loading says in a log line that it did something else."""

    def load(*args: Any, **kwargs: Any) -> Any:
        logging.getLogger("loader").warning("no checkpoint found, will train from scratch")
        return original(*args, **kwargs)

    return load


def _is_square(config: Any) -> bool:
    return bool(config.num_attention_heads * config.head_dim == config.hidden_size)


LOADER_FAULTS: tuple[Fault, ...] = (
    _fault("tensor-redrawn", "one tensor kept its random values", modules.redrawn, ("S-120",), quick=True),
    _fault("nothing-loaded", "nothing was loaded", modules.all_redrawn, ("S-05", "S-121", "S-122")),
    _fault("tensor-zero", "one tensor stayed zero", modules.zeroed, ("S-89", "S-123")),
    _fault("layers-exchanged", "two layers changed places", modules.exchanged, ("S-127",), quick=True),
    _fault("transposed", "a square matrix went in transposed", modules.transposed, ("S-32", "S-57"), needs=_is_square),
    _fault("rows-shifted", "the embedding's rows moved by one", modules.shifted_rows, ("S-127",)),
    _fault("through-bf16", "the weights went through bf16 on their way", modules.through_bf16, ("S-39",)),
    _fault("one-bit", "the lowest bit of one weight differed", modules.one_ulp, ("S-127",), quick=True),
    _fault("biases-zero", "the biases stayed zero", modules.without_biases, ("S-30", "S-54"),
           needs=lambda c: c.attention_bias),
    _fault("plain-norm", "the final norm kept its initial ones", modules.plain_norm, ("S-120",)),
    _fault("broadcast", "one value was assigned to a whole norm", modules.broadcast_norm, ("S-129",)),
    _fault("nan", "one weight became NaN", modules.one_nan, ("S-124",)),
    _fault("rows-permuted", "query rows lay in the order of neighbouring pairs", modules.permuted, ("S-51",)),
    _fault("further-on", "the weights were those of another run's later step", modules.nudged, ("S-11", "S-13")),
    _fault("untied", "the tied head was a copy of its own", _untie, ("S-29", "S-66"),
           needs=lambda c: c.tie_word_embeddings, quick=True),
    Fault(id="loader.unfilled", imitates=("S-120",), place="loader", gate="weights.memory", quick=True,
          says="a parameter was never filled", patches=(Patch(target="apr.model.load:_fill", wrap=_unfilled),)),
    Fault(id="loader.redrawn-later", imitates=("S-05", "S-128"), place="loader", gate="weights.untouched",
          says="initialisation ran once more, after the weights had been judged",
          patches=(Patch(target="apr.train.certify:Court.judge_update", wrap=_afterwards(modules.redrawn)),)),
    Fault(id="loader.warns", imitates=("S-120", "S-123"), place="loader", gate="log.messages",
          says="a library warned that weights were newly initialised", patches=(Patch(target=_LOAD, wrap=_warns),)),
    Fault(id="loader.logs", imitates=("S-122",), place="loader", gate="log.messages",
          says="a log line said that no checkpoint was found", patches=(Patch(target=_LOAD, wrap=_logs),)),
    Fault(id="loader.frozen-norms", imitates=("S-43", "S-46"), place="loader", gate="update.gradients",
          says="the norms were frozen without a word",
          patches=(Patch(target=_LOAD, wrap=after(modules.frozen_norms)),)),
)  # fmt: skip
