"""The guard as a callback of the transformers Trainer: its own model, optimizer and first batches, before step 1.

Transformers is an optional extra: only who imports this module needs it.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback

from apr.base.errors import NotYet
from apr.stepzero.certificate import Certificate
from apr.stepzero.guard import Planned, guard
from apr.stepzero.reference import Reference

_BATCHES = 2  # looked at: with gradient accumulation, that two make one update


class StepZeroCallback(TrainerCallback):
    """Refuses a Trainer's run before its first step when anything about it is silently wrong.

    Attributes:
        certificate: of the last run that began; None before.
    """

    certificate: Certificate | None = None

    def __init__(
        self,
        reference: str | Path | Reference | None = None,
        *,
        certificate_path: str | Path | None = None,
        planned: Planned | None = None,
        loss: Callable[[Any], Tensor] | None = None,
        encode: Callable[[str], list[int]] | None = None,
        rename: Callable[[str], str] = str,
    ) -> None:
        """Prepare.

        Args:
            reference, certificate_path, rename: as of `apr.stepzero.guard.guard`.
            planned: what is to hold of the optimizer; None for what the Trainer's arguments say.
            loss: of a batch; None for the Trainer's own `compute_loss`.
            encode: text -> ids; None for the Trainer's processing_class, where it is a tokenizer.
        """
        self._reference, self._certificate_path, self._planned = reference, certificate_path, planned
        self._loss, self._encode, self._rename = loss, encode, rename

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Judge; the Trainer calls it when model, optimizer, schedule and data are ready, and no batch was drawn.

        Raises:
            NotYet: the run is resumed, or smooths labels.
            StepZeroRefused: a gate said no.
        """
        if state.global_step:
            raise NotYet(option="a Trainer that resumes, with StepZeroCallback")
        if args.label_smoothing_factor:
            raise NotYet(option="label_smoothing_factor with StepZeroCallback")
        model = given["model"]

        def logits(ids: Tensor) -> Tensor:
            found: Tensor = model(input_ids=ids, use_cache=False).logits
            return found

        self.certificate = guard(
            model,
            logits,
            given["optimizer"],
            batches=first_batches(given["train_dataloader"], _BATCHES, args.device),
            reference=self._reference,
            loss=self._loss or _loss_of(self, model),
            forward_fp32=_without_autocast(model),
            encode=self._encode or _encoder(given.get("processing_class")),
            rename=self._rename,
            planned=self._planned or planned_of(args),
            certificate_path=self._certificate_path if state.is_world_process_zero else None,
        )


def _loss_of(callback: TrainerCallback, model: Any) -> Callable[[Any], Tensor]:
    """The loss that the Trainer will minimise: its own `compute_loss`, which may be another than the model's.

    A callback is not given its Trainer, so it is looked for among the callers.
    """
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, Trainer) and callback in caller.callback_handler.callbacks:
            trainer = caller
            return lambda batch: trainer.compute_loss(model, dict(batch))
        frame = frame.f_back
    return lambda batch: model(**batch, use_cache=False).loss


def planned_of(args: Any) -> Planned:
    """What the Trainer's arguments say of an AdamW; of another optimizer only the learning rate."""
    if not str(getattr(args.optim, "value", args.optim)).startswith("adamw_torch"):
        return Planned(lr=args.learning_rate, grad_clip=args.max_grad_norm or 0.0)
    return Planned(
        lr=args.learning_rate,
        # The Trainer's rule, in tensors: norms and biases do not decay.
        weight_decay=lambda name, value: args.weight_decay if value.dim() > 1 else 0.0,
        betas=(args.adam_beta1, args.adam_beta2),
        eps=args.adam_epsilon,
        grad_clip=args.max_grad_norm or 0.0,
    )


def _without_autocast(model: Any) -> Callable[[Tensor], Tensor] | None:
    """The forward pass that accelerate put autocast around; None where it did not."""
    original = vars(model).get("_original_forward")
    if original is None:
        return None
    return lambda ids: original(input_ids=ids, use_cache=False).logits


def _encoder(tokenizer: Any) -> Callable[[str], list[int]] | None:
    if not callable(tokenizer) or not hasattr(tokenizer, "convert_tokens_to_ids"):
        return None
    return lambda text: list(tokenizer(text, add_special_tokens=False)["input_ids"])


def first_batches(loader: Any, count: int, device: torch.device) -> list[dict[str, Any]]:
    """Draw the batches that a loader will give first, and leave it so that it gives them again.

    A loader is a rule, not a stream: each iteration draws its order anew, from random states that are put back. The one
    below accelerate's is asked, which counts its own iterations.
    """
    plain = getattr(loader, "base_dataloader", loader)
    generators = _generators(plain)
    kept = [(generator, generator.get_state()) for generator in generators]
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            return [_moved(batch, device) for batch in islice(iter(plain), count)]
    finally:
        for generator, value in kept:
            generator.set_state(value)
        random.setstate(python)
        np.random.set_state(numpy)


def _generators(loader: Any) -> list[torch.Generator]:
    """Every generator that a loader draws its order from."""
    found, todo = [], [loader]
    while todo:
        part = todo.pop()
        if isinstance(generator := getattr(part, "generator", None), torch.Generator):
            found.append(generator)
        todo += [
            inner for name in ("sampler", "batch_sampler") if (inner := getattr(part, name, None)) is not None
        ]
    return list({id(generator): generator for generator in found}.values())


def _moved(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    return {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}
