"""The defects planted against the invariants of the training loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from apr.stepzero import gates
from apr.train import (
    certify,
    certify_resume,
    checkpoint,
    ledger,
    loop,
    plan,
    pretrain,
    state,
)
from apr.train import run as run_module
from apr.train.errors import LossDiverged, NotFinite
from apr.train.run_dir import RunDir
from contracts.claims import training
from contracts.controls.plant import Control, Plant

_PREFIX = "INV-TRAIN-"


def wrapped(module: Any, name: str, wrap: Callable[[Any], Any]) -> Plant:
    """Put a function in the place of another, made from it."""

    def plant(patch: pytest.MonkeyPatch, scene: Any) -> None:
        patch.setattr(module, name, wrap(getattr(module, name)))

    return plant


def value(module: Any, name: str, other: Any) -> Plant:
    """Put a value in the place of another."""
    return wrapped(module, name, lambda original: other)


def control(defect: str, sees: str, plant: Plant) -> Control:
    return Control(defect=defect, sees=sees, plant=plant)


def _invented_utilisation(original: Any) -> Any:
    return lambda self, line: original(self, {**line, "gpu_util_pct": 50.0})


def _clipped_norm(original: Any) -> Any:
    return lambda decoder, limit: min(original(decoder, limit), limit)


def _logged_peak(original: Any) -> Any:
    def log(run_dir: Any, reporter: Any, figures: Any) -> None:
        original(run_dir, reporter, replace(figures, lr=1e-3))

    return log


def _last_loss(patch: pytest.MonkeyPatch, scene: Any) -> None:
    losses: list[float] = []
    add, close = ledger.Ledger.add, ledger.Ledger.close_epoch
    patch.setattr(
        ledger.Ledger, "add", lambda self, update: losses.append(update.train_loss) or add(self, update)
    )
    patch.setattr(ledger.Ledger, "close_epoch", lambda self: (losses[-1], close(self)[1]))


def _no_metadata(original: Any) -> Any:
    def write(self: Any, name: str, document: Any) -> None:
        if not name.endswith("metadata.json"):
            original(self, name, document)

    return write


def _invented_sha(original: Any) -> Any:
    def write(*given: Any) -> str:
        original(*given)
        return "0" * 64

    return write


def _impatient(original: Any) -> Any:
    return property(lambda self: self.epoch >= 2 and self.epochs_without_gain >= 1)


def _unbounded(original: Any) -> Any:
    def judge(self: Any, val_loss: float, *given: Any) -> Any:
        try:
            return original(self, val_loss, *given)
        except LossDiverged:
            if not self.val_losses:
                raise
            self.val_losses.append(val_loss)
            return 0.0

    return judge


def _any_step0(original: Any) -> Any:
    return lambda *given, **named: replace(original(*given, **named), verdict="yes", cause="")


def _drifting_seed(original: Any) -> Any:
    seeds = iter(range(10**6))

    def build(*given: Any, **named: Any) -> Any:
        return original(*given, **{**named, "seed": next(seeds)})

    return build


def _one_seed(original: Any) -> Any:
    return lambda *given, **named: original(*given, **{**named, "seed": 42})


def _late_nan(original: Any) -> Any:
    def make(decoder: Any, optimizer: Any, *given: Any) -> Any:
        try:
            return original(decoder, optimizer, *given)
        except NotFinite:
            optimizer.step()
            raise

    return make


class _WallClock:
    perf_counter = staticmethod(lambda: time.time())


def _stuck_mode(original: Any) -> Any:
    return {**original, "from-scratch": {**original["from-scratch"], "warmup_steps": 100}}


def _mode_wins(original: Any) -> Any:
    return lambda spec: original(replace(spec, lr=None))


def _synthetic(original: Any) -> Any:
    return lambda spec: replace(original(spec), synthetic=True)


def _any_length(original: Any) -> Any:
    return lambda *given, **named: None


def _cycles_anyway(patch: pytest.MonkeyPatch, scene: Any) -> None:
    patch.setattr(pretrain, "check_fit", lambda *given, **named: None)
    original = certify.BatchStream
    patch.setattr(certify, "BatchStream", lambda *g, **n: original(*g, **{**n, "allow_cycle": True}))


def _placeholder(original: Any) -> Any:
    calls: list[int] = []

    def accumulate(decoder: Any, batches: Any, *given: Any) -> float:
        loss: float = original(decoder, batches, *given)
        calls.append(1)
        return 1.0 if len(calls) > 30 else loss

    return accumulate


def _read_twice(original: Any) -> Any:
    class Forgetful(original):  # type: ignore[misc]
        is_late = False

        def next_batch(self) -> Any:
            if self.cursor == 8 and not self.is_late:
                self.cursor, self.is_late = 6, True
            return super().next_batch()

    return Forgetful


def _one_step(change: int) -> Callable[[Any], Any]:
    def wrap(original: Any) -> Any:
        def updates(
            decoder: Any, optimizer: Any, stream: Any, planned: Any, *given: Any, **named: Any
        ) -> Any:
            other = replace(planned, num_steps=planned.num_steps + change)
            return original(decoder, optimizer, stream, other, *given, **named)

        return updates

    return wrap


def _stale(original: Any) -> Any:
    def producer(tensor: Any) -> Any:
        produce = original(tensor)
        return lambda: produce() + (tensor.dim() == 1) * 1e-3

    return producer


def _stale_and_not_compared(patch: pytest.MonkeyPatch, scene: Any) -> None:
    patch.setattr(checkpoint, "_producer", _stale(checkpoint._producer))
    patch.setattr(checkpoint.np, "array_equal", lambda *given: True)
    patch.setattr(training, "np", _Numpy)


class _Numpy:
    """numpy for the falsifier, which compares as numpy does."""

    array_equal = staticmethod(lambda left, right: left.tobytes() == right.tobytes())


def _from_the_start(original: Any) -> Any:
    return lambda inputs, planned, cursor=0: original(inputs, planned, 0)


def _no_moments(original: Any) -> Any:
    def load(path: Any, parameters: Any, optimizer: Any) -> None:
        original(path, parameters, optimizer)
        for moments in optimizer.state.values():
            moments["exp_avg"].zero_()

    return load


def _other_rate(patch: pytest.MonkeyPatch, scene: Any) -> None:
    resumed: list[Path] = []
    load, rate = certify_resume.load_optimizer, loop.set_learning_rate

    def loaded(path: Path, *given: Any) -> None:
        load(path, *given)
        resumed.append(path)

    patch.setattr(certify_resume, "load_optimizer", loaded)
    patch.setattr(loop, "set_learning_rate", lambda held, lr: rate(held, lr / 2 if resumed else lr))


def _means(original: Any) -> Any:
    def accumulate(decoder: Any, batches: Any, num_tokens: int, compute: Any) -> float:
        return sum(original(decoder, [b], len(batches) * b.num_target_tokens, compute) for b in batches)

    return accumulate


def _last_only(original: Any) -> Any:
    def accumulate(decoder: Any, batches: Any, num_tokens: int, compute: Any) -> float:
        loss = 0.0
        for batch in batches:
            decoder.zero_grad(set_to_none=True)
            loss += original(decoder, [batch], num_tokens, compute)
        return loss

    return accumulate


def _clipped_late(original: Any) -> Any:
    return lambda decoder, limit: original(decoder, 0.0)


def _clipped_by_tensor(original: Any) -> Any:
    def clip(decoder: Any, limit: float) -> float:
        norm: float = original(decoder, 0.0)
        for parameter in decoder.parameters() if limit else ():
            torch.nn.utils.clip_grad_norm_([parameter], limit)
        return norm

    return clip


TRAINING_CONTROLS: Mapping[str, Sequence[Control]] = {
    _PREFIX + "001": (
        control("the logged rate is the plan's peak", "another lr", wrapped(run_module, "_log_update", _logged_peak)),
        control("the utilisation of a GPU is invented", "invented",
                wrapped(RunDir, "append_metrics", _invented_utilisation)),
        control("the logged norm is that after clipping", "grad_norm|update.slope",
                wrapped(loop, "_clip", _clipped_norm)),
    ),
    _PREFIX + "002": (
        control("the epoch's loss is its last step's", "another train_loss", _last_loss),
        control("an epoch's metadata is not written", "no metadata", wrapped(RunDir, "write", _no_metadata)),
    ),
    _PREFIX + "003": (
        control("the digest of the optimizer's state is invented", "not the file's",
                wrapped(state, "write_optimizer", _invented_sha)),
    ),
    _PREFIX + "004": (
        control("noise counts as a gain", "counts as a gain", value(ledger, "paired_error", lambda *given: 0.0)),
        control("patience is one epoch", "another patience", value(ledger, "PATIENCE_EPOCHS", 1)),
        control("patience is spent in the second epoch", "another patience",
                wrapped(ledger.Ledger, "is_out_of_patience", _impatient)),
    ),
    _PREFIX + "005": (
        control("the first loss has no bound above", "of 10.1 passes", value(ledger, "FINETUNE_LOSS_LIMIT", 1e9)),
        control("a loss may double", "doubled loss passes", wrapped(ledger.Ledger, "judge", _unbounded)),
        control("a loss too good to be true passes", "too good to be true",
                wrapped(gates, "step0_gate", _any_step0)),
    ),
    _PREFIX + "006": (
        control("the order of the data has a seed of its own", "other bits|order",
                wrapped(certify, "BatchStream", _drifting_seed)),
        control("the seed is not used", "the same losses", wrapped(certify, "BatchStream", _one_seed)),
    ),
    _PREFIX + "007": (
        control("NaN is let through", "let through", value(loop, "_require_finite", lambda *given: None)),
        control("NaN is seen after the update", "the update was made", wrapped(loop, "make_update", _late_nan)),
    ),
    _PREFIX + "008": (
        control("speed is measured with the wall clock", "a speed is not above 0", value(loop, "time", _WallClock)),
    ),
    _PREFIX + "009": (
        control("one value of the mode stays", "values of from-scratch", wrapped(plan, "MODES", _stuck_mode)),
        control("the mode wins over the option", "does not win",
                wrapped(training, "resolve", _mode_wins)),
    ),
    _PREFIX + "010": (
        control("the run is synthetic unless told otherwise", "synthetic", wrapped(pretrain, "resolve", _synthetic)),
    ),
    _PREFIX + "011": (
        control("an exhausted stream begins again without a word", "without a word", _cycles_anyway),
        control("an exhausted stream gives the loss 1.0", "a placeholder",
                wrapped(loop, "_accumulate", _placeholder)),
    ),
    _PREFIX + "012": (
        control("a batch is read twice", "APR614|APR664|windows were read",
                wrapped(certify, "BatchStream", _read_twice)),
        control("one step less is made", "APR614|steps were made|windows were read",
                wrapped(run_module, "updates", _one_step(-1))),
        control("one step more is made", "APR614|steps were made|exhausted|windows were read",
                wrapped(run_module, "updates", _one_step(1))),
    ),
    _PREFIX + "013": (
        control("a tensor is saved as it was before", "APR613", wrapped(checkpoint, "_producer", _stale)),
        control("the file is not compared with what is in memory", "not what is in memory", _stale_and_not_compared),
    ),
    _PREFIX + "014": (
        control("the data begins again at a resume", "other weights|APR",
                wrapped(certify_resume, "stream_of", _from_the_start)),
        control("the moments are left behind", "other weights", wrapped(certify_resume, "load_optimizer", _no_moments)),
        control("the rate is another after a resume", "other weights", _other_rate),
    ),
    "accumulation": (
        control("every micro-batch weighs alike", "another loss", wrapped(loop, "_accumulate", _means)),
        control("only the last micro-batch counts", "another gradient", wrapped(loop, "_accumulate", _last_only)),
    ),
    "clipping": (
        control("the gradient is clipped after the update", "another gradient", wrapped(loop, "_clip", _clipped_late)),
        control("every tensor is clipped alone", "another gradient", wrapped(loop, "_clip", _clipped_by_tensor)),
    ),
}  # fmt: skip
