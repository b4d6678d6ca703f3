"""The defects planted against the invariants of the training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from apr.stepzero import gates
from apr.train import (
    certify,
    certify_resume,
    checkpoint,
    ledger,
    loop,
    plan,
    pretrain,
    run,
    state,
)
from apr.train.run_dir import RunDir
from contracts.claims import training
from contracts.controls import training_plants as plants
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


def _last_loss(patch: pytest.MonkeyPatch, scene: Any) -> None:
    for name in ("add", "close_epoch"):
        patch.setattr(ledger.Ledger, name, getattr(ledger.Ledger, name))
    plants.last_loss(ledger.Ledger)


def _cycles_anyway(patch: pytest.MonkeyPatch, scene: Any) -> None:
    patch.setattr(pretrain, "check_fit", lambda *given, **named: None)
    original = certify.BatchStream
    patch.setattr(certify, "BatchStream", lambda *g, **n: original(*g, **{**n, "allow_cycle": True}))


def _stale_and_not_compared(patch: pytest.MonkeyPatch, scene: Any) -> None:
    patch.setattr(checkpoint, "_producer", plants.stale(checkpoint._producer))
    patch.setattr(checkpoint.np, "array_equal", lambda *given: True)
    patch.setattr(training, "np", _Numpy)


class _Numpy:
    """numpy for the falsifier, which compares as numpy does."""

    array_equal = staticmethod(lambda left, right: left.tobytes() == right.tobytes())


def _other_rate(patch: pytest.MonkeyPatch, scene: Any) -> None:
    resumed: list[Path] = []
    load, rate = certify_resume.load_optimizer, loop.set_learning_rate

    def loaded(path: Path, *given: Any) -> None:
        load(path, *given)
        resumed.append(path)

    patch.setattr(certify_resume, "load_optimizer", loaded)
    patch.setattr(loop, "set_learning_rate", lambda held, lr: rate(held, lr / 2 if resumed else lr))


TRAINING_CONTROLS: Mapping[str, Sequence[Control]] = {
    _PREFIX + "001": (
        control("the logged rate is the plan's peak", "another lr",
                wrapped(run, "_log_update", plants.logged_peak)),
        control("the utilisation of a GPU is invented", "invented",
                wrapped(RunDir, "append_metrics", plants.invented_utilisation)),
        control("the logged norm is that after clipping", "grad_norm|update.slope",
                wrapped(loop, "_clip", plants.clipped_norm)),
    ),
    _PREFIX + "002": (
        control("the epoch's loss is its last step's", "another train_loss", _last_loss),
        control("an epoch's metadata is not written", "no metadata", wrapped(RunDir, "write", plants.no_metadata)),
    ),
    _PREFIX + "003": (
        control("the digest of the optimizer's state is invented", "not the file's",
                wrapped(state, "write_optimizer", plants.invented_digest)),
    ),
    _PREFIX + "004": (
        control("noise counts as a gain", "counts as a gain", value(ledger, "paired_error", lambda *given: 0.0)),
        control("patience is one epoch", "another patience", value(ledger, "PATIENCE_EPOCHS", 1)),
        control("patience is spent in the second epoch", "another patience",
                wrapped(ledger.Ledger, "is_out_of_patience", plants.impatient)),
    ),
    _PREFIX + "005": (
        control("the first loss has no bound above", "of 10.1 passes", value(ledger, "FINETUNE_LOSS_LIMIT", 1e9)),
        control("a loss may double", "doubled loss passes", wrapped(ledger.Ledger, "judge", plants.unbounded)),
        control("a loss too good to be true passes", "too good to be true",
                wrapped(gates, "step0_gate", plants.any_step0)),
    ),
    _PREFIX + "006": (
        control("the order of the data has a seed of its own", "other bits|order",
                wrapped(certify, "BatchStream", plants.drifting_seed)),
        control("the seed is not used", "the same losses", wrapped(certify, "BatchStream", plants.one_seed)),
    ),
    _PREFIX + "007": (
        control("NaN is let through", "let through", value(loop, "_require_finite", lambda *given: None)),
        control("NaN is seen after the update", "the update was made", wrapped(loop, "make_update", plants.late_nan)),
    ),
    _PREFIX + "008": (
        control("speed is measured with the wall clock", "a speed is not above 0",
                wrapped(loop, "time", plants.wall_clock)),
    ),
    _PREFIX + "009": (
        control("one value of the mode stays", "values of from-scratch", wrapped(plan, "MODES", plants.stuck_mode)),
        control("the mode wins over the option", "does not win",
                wrapped(training, "resolve", plants.mode_wins)),
    ),
    _PREFIX + "010": (
        control("the run is synthetic unless told otherwise", "synthetic",
                wrapped(pretrain, "resolve", plants.synthetic)),
    ),
    _PREFIX + "011": (
        control("an exhausted stream begins again without a word", "without a word", _cycles_anyway),
        control("an exhausted stream gives the loss 1.0", "a placeholder",
                wrapped(loop, "_accumulate", plants.placeholder)),
    ),
    _PREFIX + "012": (
        control("a batch is read twice", "APR614|APR664|windows were read",
                wrapped(certify, "BatchStream", plants.read_twice)),
        control("one step less is made", "APR614|steps were made|windows were read",
                wrapped(run, "updates", plants.one_step_less)),
        control("one step more is made", "APR614|steps were made|exhausted|windows were read",
                wrapped(run, "updates", plants.one_step_more)),
    ),
    _PREFIX + "013": (
        control("a tensor is saved as it was before", "APR613", wrapped(checkpoint, "_producer", plants.stale)),
        control("the file is not compared with what is in memory", "not what is in memory", _stale_and_not_compared),
    ),
    _PREFIX + "014": (
        control("the data begins again at a resume", "other weights|APR",
                wrapped(certify_resume, "stream_of", plants.from_the_start)),
        control("the moments are left behind", "other weights",
                wrapped(certify_resume, "load_optimizer", plants.no_moments)),
        control("the rate is another after a resume", "other weights", _other_rate),
    ),
    "accumulation": (
        control("every micro-batch weighs alike", "another loss", wrapped(loop, "_accumulate", plants.means)),
        control("only the last micro-batch counts", "another gradient", wrapped(loop, "_accumulate", plants.last_only)),
    ),
    "clipping": (
        control("the gradient is clipped after the update", "another gradient",
                wrapped(loop, "_clip", plants.clipped_late)),
        control("every tensor is clipped alone", "another gradient", wrapped(loop, "_clip", plants.clipped_by_tensor)),
    ),
}  # fmt: skip
