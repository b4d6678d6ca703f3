"""Faults of schedule and data order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from apr.stepzero.faults.fault import Fault, Patch, Place
from apr.stepzero.faults.forward import before, instead

_RATE = "apr.train.plan:learning_rate"
_SET = "apr.train.certify_optimizer:set_learning_rate"
_BATCH = "apr.data.batches:BatchStream.next_batch"
_INDICES = "apr.data.batches:BatchStream._indices"


def _fault(
    place: Place,
    name: str,
    gate: str,
    says: str,
    target: str,
    wrap: Callable[[Any], Any],
    imitates: tuple[str, ...],
    **more: Any,
) -> Fault:
    prefix = place.replace("data ", "")
    return Fault(
        id=f"{prefix}.{name}", imitates=imitates, place=place, gate=gate, says=says,
        patches=(Patch(target=target, wrap=wrap),), **more,
    )  # fmt: skip


def _changed(**changes: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Change keyword arguments of the schedule."""

    def wrap(original: Any) -> Any:
        def rate(step: int, **options: Any) -> float:
            told = {name: change(options[name]) for name, change in changes.items()}
            return float(original(step, **{**options, **told}))

        return rate

    return wrap


def _restarting(original: Any) -> Any:
    """The schedule starts again in the middle of the run."""

    def rate(step: int, **options: Any) -> float:
        half = max(1, options["num_steps"] // 2)
        return float(original(step % half, **{**options, "num_steps": half}))

    return rate


def _batches(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def wrap(original: Any) -> Any:
        def next_batch(self: Any) -> Any:
            return change(original(self))

        return next_batch

    return wrap


def _unshifted(batch: Any) -> Any:
    return replace(batch, targets_BT=batch.inputs_BT.clone())


def _shifted_again(batch: Any) -> Any:
    targets = torch.cat((batch.targets_BT[:, 1:], batch.targets_BT[:, -1:]), dim=1)
    return replace(batch, targets_BT=targets)


def _noised(batch: Any) -> Any:
    inputs = batch.inputs_BT.clone()
    inputs[0, 0] = (inputs[0, 0] + 1) % 7
    return replace(batch, inputs_BT=inputs)


def _miscounted(batch: Any) -> Any:
    return replace(batch, num_target_tokens=batch.num_target_tokens + 1)


def _in_order(original: Any) -> Any:
    def indices(self: Any, cursor: int, num_batches: int) -> np.ndarray:
        found = original(self, cursor, num_batches)
        return (np.arange(len(found)) + cursor) % self.num_windows

    return indices


def _same_again(original: Any) -> Any:
    """Every batch is the first: workers that share one seed, or a cursor that does not move."""

    def indices(self: Any, cursor: int, num_batches: int) -> np.ndarray:
        first = original(self, 0, 1)
        return np.tile(first, num_batches)

    return indices


def _with_repeats(original: Any) -> Any:
    """Windows are drawn with replacement."""

    def indices(self: Any, cursor: int, num_batches: int) -> np.ndarray:
        found = original(self, cursor, num_batches)
        return np.where(np.arange(len(found)) % 2 == 1, np.roll(found, 1), found)

    return indices


def _advanced(original: Any) -> Any:
    def build(*args: Any, **kwargs: Any) -> Any:
        stream = original(*args, **kwargs)
        stream.cursor = kwargs["batch_size"]
        return stream

    return build


def _ends_early(original: Any) -> Any:
    """The loop makes one step less than it was asked for."""

    def updates(*args: Any) -> Any:
        made = list(original(*args))
        args[2].cursor -= 1
        return iter(made)

    return updates


def _one_window(original: Any) -> Any:
    """Batches have one window more than was asked for."""

    def build(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **{**kwargs, "batch_size": kwargs["batch_size"] + 1})

    return build


_STREAM = "apr.train.certify:BatchStream"

ORDER_FAULTS: tuple[Fault, ...] = (
    _fault("schedule", "constant", "optimizer.schedule", "the schedule was computed and a constant applied", _RATE,
           _changed(schedule=lambda s: "constant", warmup_steps=lambda w: 0), ("S-40",)),
    _fault("schedule", "no-warm-up", "optimizer.schedule", "there was no warm-up", _RATE,
           _changed(warmup_steps=lambda w: 0), ("S-40",)),
    _fault("schedule", "long-horizon", "optimizer.schedule", "the schedule was that of a run four times as long", _RATE,
           _changed(num_steps=lambda n: 4 * n), ("S-42",), quick=True),
    _fault("schedule", "off-by-one", "optimizer.schedule", "the schedule was one step late", _RATE,
           before(lambda step: (max(0, step - 1),)), ("S-40",)),
    _fault("schedule", "restarts", "optimizer.schedule", "the schedule began again in the middle", _RATE, _restarting,
           ("S-42",)),
    _fault("schedule", "other-peak", "optimizer.schedule", "the learning rate was a constant of the code", _RATE,
           _changed(peak=lambda p: 2e-4), ("S-08",)),
    _fault("schedule", "to-zero", "optimizer.schedule", "the schedule fell to zero", _RATE,
           lambda original: lambda step, **o: original(step, **o) - 0.1 * o["peak"] * step / max(1, o["num_steps"] - 1),
           ("S-42",)),
    _fault("schedule", "not-applied", "optimizer.schedule", "the rate was computed and not set", _SET,
           instead(lambda optimizer, lr: None), ("S-40", "S-132")),
    _fault("data order", "not-shuffled", "data.order", "the windows came in the order of the text", _INDICES, _in_order,
           ("S-78",)),
    _fault("data order", "same-again", "data.order", "every batch was the first", _INDICES, _same_again, ("S-134", "S-83")),
    _fault("data order", "with-repeats", "data.order", "windows were drawn with replacement", _INDICES, _with_repeats,
           ("S-134",)),
    _fault("data order", "not-shifted", "data.order", "the targets were the inputs", _BATCH, _batches(_unshifted),
           ("S-80",), quick=True),
    _fault("data order", "shifted-twice", "data.order", "the targets were two tokens ahead", _BATCH,
           _batches(_shifted_again), ("S-80",)),
    _fault("data order", "other-tokens", "data.order", "a token of the batch was not the shard's", _BATCH, _batches(_noised),
           ("S-11", "S-25")),
    _fault("data order", "miscounted", "data.order", "a batch counted one target too many", _BATCH, _batches(_miscounted),
           ("S-79",)),
    _fault("data order", "begins-later", "data.order", "the data began where another run had stopped", _STREAM, _advanced,
           ("S-83", "S-131")),
    _fault("data order", "other-batch", "data.order", "a batch had another size than asked for", _STREAM, _one_window,
           ("S-07",)),
    _fault("data order", "tokens-missed", "run.steps", "the loop consumed fewer tokens than planned",
           "apr.train.run:updates", _ends_early, ("S-10", "S-133")),
)  # fmt: skip
