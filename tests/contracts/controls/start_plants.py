"""Defects of a run's start that take more than a value: each gets the original and returns what takes its place.

`pv` plants them while the program is imported, so that the program is imported here only when they act.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

GOLDEN = Path(__file__).parents[2] / "golden" / "tiny.apr"


def dropped(original: Any) -> Any:
    """The option is accepted and dropped."""
    return lambda **options: original(**{**options, "init": None})


def dropped_from_scratch(original: Any) -> Any:
    """Mode from-scratch drops the option."""
    late = dropped(original)
    return lambda **options: (late if options["mode"] == "from-scratch" else original)(**options)


def hidden(command: Any) -> Any:
    """The help does not show the option."""
    next(parameter for parameter in command.params if parameter.name == "init").hidden = True
    return command


def opened_unasked(original: Any) -> Any:
    """A run without --init opens a checkpoint that lies about."""

    def find(name: str) -> Any:
        from apr.train import inputs

        inputs.open_apr(GOLDEN).close()
        return original(name)

    return find


def left_out(original: Any) -> Any:
    """A checkpoint that does not load is left out, and the run starts from random weights."""

    def lenient(*arguments: Any) -> Any:
        from apr.base.errors import AprError

        try:
            return original(*arguments)
        except AprError:
            return None

    return lenient


def allocated_first(original: Any) -> Any:
    """A model is built before the inputs are looked at."""

    def eager(*arguments: Any) -> Any:
        from apr.model.initialise import random_decoder
        from tiny import CONFIG

        random_decoder(CONFIG, 0)
        return original(*arguments)

    return eager


def footer_not_missed(original: Any) -> Any:
    """A file that lacks its footer is read."""

    def lenient(self: Any, view: memoryview) -> None:
        from apr.aprfile.errors import FileTruncated

        try:
            original(self, view)
        except FileTruncated as error:
            if error.part != "footer":
                raise

    return lenient


def first_only(original: Any) -> Any:
    """Only the first mismatching field is named."""
    return lambda left, right: original(left, right)[:1]


def filled_in(original: Any) -> Any:
    """A config field that a file lacks, or has as null, gets a default."""

    def lenient(values: Any, source: str) -> Any:
        from tiny import CONFIG

        known = {name: value for name, value in values.items() if value is not None}
        missing = {name: value for name, value in CONFIG.to_dict().items() if name not in known}
        return original({**values, **missing}, source)

    return lenient


def tolerances_off(original: Any) -> float:
    """Every difference from the reference is tolerated."""
    module: Any = sys.modules["apr.stepzero.reference"]
    module.TRAINING_TOLERANCE = dict.fromkeys(module.TRAINING_TOLERANCE, 1e9)
    module.BLOCK_TOLERANCE = 1e9
    return 1e9


def random_weights(original: Any) -> Any:
    """The file is read, and its weights are not."""

    def forgetful(file: Any, *given: Any) -> Any:
        from apr.model.initialise import random_decoder

        loaded = original(file, *given)
        return replace(loaded, decoder=random_decoder(loaded.facts.config, 1, *given))

    return forgetful


def without_reference(original: Any) -> Any:
    """The reference in the file is not read."""
    return lambda file: replace(original(file), reference=None)


def stale_moments(original: Any) -> Any:
    """Moments of an earlier run are in the optimizer when the first update is made."""

    def stale(*arguments: Any) -> Any:
        zero = original(*arguments)
        for group in zero.optimizer.param_groups:
            for parameter in group["params"]:
                moments = {"exp_avg": torch.full_like(parameter, 1e-3)}
                moments["exp_avg_sq"] = torch.full_like(parameter, 1e-6)
                zero.optimizer.state[parameter] = {"step": torch.tensor(60.0), **moments}
        return zero

    return stale


def going_on(original: Any) -> Any:
    """The counters begin where an earlier run ended."""
    return lambda **options: original(**options, steps=60, tokens=15360)


def optimizer_first(original: Any) -> Any:
    """The optimizer is built before the weights are there."""

    def late(*given: Any) -> Any:
        from apr.train import certify

        certify.build_optimizer([], lr=1.0, betas=(0.9, 0.95), weight_decay=0.0)
        return original(*given)

    return late


def timed_metadata(original: Any) -> Any:
    """The time of writing is in a checkpoint's metadata."""
    return lambda facts: {**original(facts), "created_at": time.time_ns()}


def timed_evidence(original: Any) -> Any:
    """The certificate's digest, which a checkpoint names, covers how long the gates took."""
    return property(lambda self: f"{time.time_ns():064x}")


def unseeded(original: Any) -> Any:
    """Random weights do not follow from the seed."""
    return lambda decoder, seed: original(decoder, time.time_ns() % 2**40)


def no_steps(original: Any) -> Any:
    """A run makes no step, whatever it is asked for."""
    return lambda *given: replace(original(*given), num_steps=0)


def unheeded(original: Any) -> Any:
    """Step zero judges on, and nobody heeds what it says."""
    sys.modules["apr.train.certify"].Court.refused = False
    return lambda self, certificate: None
