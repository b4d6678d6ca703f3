"""Defects of the training loop that take more than a value: each gets the original and returns what takes its place.

`pv` plants them while the program is imported, so that nothing is imported here that the program may still be at.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from apr.train.errors import LossDiverged, NotFinite


def invented_utilisation(original: Any) -> Any:
    """The utilisation of a GPU is invented."""
    return lambda self, line: original(self, {**line, "gpu_util_pct": 50.0})


def clipped_norm(original: Any) -> Any:
    """The norm is that after clipping."""
    return lambda decoder, limit: min(original(decoder, limit), limit)


def logged_peak(original: Any) -> Any:
    """The logged rate is the plan's peak."""

    def log(run_dir: Any, reporter: Any, figures: Any) -> None:
        original(run_dir, reporter, replace(figures, lr=1e-3))

    return log


def last_loss(ledger: Any) -> Any:
    """The epoch's loss is its last step's."""
    losses: list[float] = []
    add, close = ledger.add, ledger.close_epoch
    ledger.add = lambda self, update: losses.append(update.train_loss) or add(self, update)
    ledger.close_epoch = lambda self: (losses[-1], close(self)[1])
    return ledger


def no_metadata(original: Any) -> Any:
    """An epoch's metadata is not written."""

    def write(self: Any, name: str, document: Any) -> None:
        if not name.endswith("metadata.json"):
            original(self, name, document)

    return write


def invented_digest(original: Any) -> Any:
    """The digest of the optimizer's state is invented."""

    def write(*given: Any) -> str:
        original(*given)
        return "0" * 64

    return write


def impatient(original: Any) -> Any:
    """Patience is spent in the second epoch."""
    return property(lambda self: self.epoch >= 2 and self.epochs_without_gain >= 1)


def unbounded(original: Any) -> Any:
    """A later loss has no bound above."""

    def judge(self: Any, val_loss: float, *given: Any) -> Any:
        try:
            return original(self, val_loss, *given)
        except LossDiverged:
            if not self.val_losses:
                raise
            self.val_losses.append(val_loss)
            return 0.0

    return judge


def any_step0(original: Any) -> Any:
    """Any first loss passes step zero."""
    return lambda *given, **named: replace(original(*given, **named), verdict="yes", cause="")


def drifting_seed(original: Any) -> Any:
    """The order of the data has a seed of its own."""
    seeds = iter(range(10**6))

    def build(*given: Any, **named: Any) -> Any:
        return original(*given, **{**named, "seed": next(seeds)})

    return build


def one_seed(original: Any) -> Any:
    """The seed is not used."""
    return lambda *given, **named: original(*given, **{**named, "seed": 42})


def late_nan(original: Any) -> Any:
    """NaN is seen after the update."""

    def make(decoder: Any, optimizer: Any, *given: Any) -> Any:
        try:
            return original(decoder, optimizer, *given)
        except NotFinite:
            optimizer.step()
            raise

    return make


class _WallClock:
    perf_counter = staticmethod(lambda: time.time())


def wall_clock(original: Any) -> Any:
    """Speed is measured with the wall clock."""
    return _WallClock


def stuck_mode(original: Any) -> Any:
    """One value of the mode stays."""
    return {**original, "from-scratch": {**original["from-scratch"], "warmup_steps": 100}}


def mode_wins(original: Any) -> Any:
    """The mode wins over the option."""
    return lambda spec: original(replace(spec, lr=None))


def synthetic(original: Any) -> Any:
    """A run is synthetic unless told otherwise."""
    return lambda spec: replace(original(spec), synthetic=True)


def placeholder(original: Any) -> Any:
    """An exhausted stream gives the loss 1.0."""
    calls: list[int] = []

    def accumulate(decoder: Any, batches: Any, *given: Any) -> float:
        loss: float = original(decoder, batches, *given)
        calls.append(1)
        return 1.0 if len(calls) > 30 else loss

    return accumulate


def read_twice(original: Any) -> Any:
    """A batch is read twice."""

    class Forgetful(original):  # type: ignore[misc]
        is_late = False

        def next_batch(self) -> Any:
            if self.cursor == 8 and not self.is_late:
                self.cursor, self.is_late = 6, True
            return super().next_batch()

    return Forgetful


def one_step(change: int) -> Callable[[Any], Any]:
    """Another number of steps is made."""

    def wrap(original: Any) -> Any:
        def updates(
            decoder: Any, optimizer: Any, stream: Any, planned: Any, *given: Any, **named: Any
        ) -> Any:
            other = replace(planned, num_steps=planned.num_steps + change)
            return original(decoder, optimizer, stream, other, *given, **named)

        return updates

    return wrap


def one_step_less(original: Any) -> Any:
    """One step less is made."""
    return one_step(-1)(original)


def one_step_more(original: Any) -> Any:
    """One step more is made."""
    return one_step(+1)(original)


def stale(original: Any) -> Any:
    """A tensor is saved as it was before."""

    def producer(tensor: Any) -> Any:
        produce = original(tensor)
        return lambda: produce() + (tensor.dim() == 1) * 1e-3

    return producer


def from_the_start(original: Any) -> Any:
    """The data begins again at a resume."""
    return lambda inputs, planned, cursor=0: original(inputs, planned, 0)


def no_moments(original: Any) -> Any:
    """The moments are left behind at a resume."""

    def load(path: Any, parameters: Any, optimizer: Any) -> None:
        original(path, parameters, optimizer)
        for moments in optimizer.state.values():
            moments["exp_avg"].zero_()

    return load


def means(original: Any) -> Any:
    """Every micro-batch weighs alike."""

    def accumulate(decoder: Any, batches: Any, num_tokens: int, compute: Any) -> float:
        return sum(original(decoder, [b], len(batches) * b.num_target_tokens, compute) for b in batches)

    return accumulate


def last_only(original: Any) -> Any:
    """Only the last micro-batch counts."""

    def accumulate(decoder: Any, batches: Any, num_tokens: int, compute: Any) -> float:
        loss = 0.0
        for batch in batches:
            decoder.zero_grad(set_to_none=True)
            loss += original(decoder, [batch], num_tokens, compute)
        return loss

    return accumulate


def clipped_late(original: Any) -> Any:
    """The gradient is not clipped before the update."""
    return lambda decoder, limit: original(decoder, 0.0)


def clipped_by_tensor(original: Any) -> Any:
    """Every tensor is clipped alone."""

    def clip(decoder: Any, limit: float) -> float:
        norm: float = original(decoder, 0.0)
        for parameter in decoder.parameters() if limit else ():
            torch.nn.utils.clip_grad_norm_([parameter], limit)
        return norm

    return clip


class _Trusting:
    """numpy, to which any two arrays are equal."""

    array_equal = staticmethod(lambda *given: True)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def stale_and_not_compared(original: Any) -> Any:
    """A tensor is saved as it was before, and the file is not compared with what is in memory."""
    sys.modules["apr.train.checkpoint"].np = _Trusting()  # type: ignore[attr-defined]
    return stale(original)


def cycling(original: Any) -> Any:
    """An exhausted stream begins again without a word."""
    changed: list[Any] = []

    def unchecked(*given: Any, **named: Any) -> None:
        certify: Any = sys.modules["apr.train.certify"]
        if not changed:
            changed.append(certify.BatchStream)
            certify.BatchStream = lambda *g, **n: changed[0](*g, **{**n, "allow_cycle": True})

    return unchecked


def halved(original: Any) -> Any:
    """The rate is half of the plan's after a resume."""
    rates: list[Any] = []

    def load(*given: Any) -> None:
        original(*given)
        loop: Any = sys.modules["apr.train.loop"]
        if not rates:
            rates.append(loop.set_learning_rate)
            loop.set_learning_rate = lambda optimizer, lr: rates[0](optimizer, lr / 2)

    return load
