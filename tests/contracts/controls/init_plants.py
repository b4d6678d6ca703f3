"""Defects of a run from a checkpoint, beside those of start_plants: each gets the original and returns another.

`pv` plants them while the program is imported, so that the program is imported here only when they act. Where a defect
stands in several places, or step zero would refuse it before the falsifier could see it, one name is patched by `pv`
and the others by the plant, in modules that the first has imported.
"""

from __future__ import annotations

import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from contracts.controls import start_plants


def _module(name: str) -> Any:
    """A module of the program, which has been imported when this is called."""
    return sys.modules[name]


def unheeded() -> Any:
    """What takes the place of `Run._require_passed`, when nobody heeds step zero: the falsifier must see it alone."""
    return start_plants.unheeded(None)


def _tolerate() -> None:
    _module("apr.stepzero.reference").LOSS_TOLERANCE = start_plants.tolerances_off(None)


def by_default(command: Any) -> Any:
    """The option has a default."""
    next(parameter for parameter in command.params if parameter.name == "init").default = Path("model.apr")
    return command


def without_id(original: Any) -> Any:
    """An error does not say its id."""
    return lambda self: f"{self.message}; {self.advice}"


def exit_lost(original: Any) -> Any:
    """Refusals are told, and the command exits 0."""
    return lambda *given: 0 if original(*given) in (1, 2) else 3


def _left_out(original: Any, kind: str) -> Any:
    def lenient(*given: Any) -> Any:
        from apr.base.errors import AprError

        try:
            return original(*given)
        except AprError as error:
            if type(error).__name__ != kind:
                raise
            return None

    return lenient


def foreign_left_out(original: Any) -> Any:
    """What is no .apr file is left out, and the run starts from random weights."""
    return _left_out(original, "NotAprFile")


def contradictions_left_out(original: Any) -> Any:
    """A file whose tensors contradict its config is left out, and the run starts from random weights."""
    return _left_out(original, "ArchContradiction")


def families_are_llama(original: Any) -> Any:
    """An unknown family is taken for llama."""
    slugs = _module("apr.aprfile.foreign")._SLUGS
    slugs |= dict.fromkeys(("mamba", "mambaforcausallm"), "llama")

    def lenient(values: Any, source: str) -> Any:
        is_known = values["family"] in ("llama", "qwen2")
        return original(values if is_known else {**values, "family": "llama"}, source)

    return lenient


def loaded_unasked(original: Any) -> Any:
    """A run without --init starts from a checkpoint that happens to lie about."""

    def other(*given: Any) -> Any:
        from apr.aprfile.reader import open_apr
        from apr.model.load import load_decoder
        from tiny import make_model

        with TemporaryDirectory() as folder:
            path = make_model(Path(folder) / "lying-about.apr", oracle="none")
            with open_apr(path) as file:
                return load_decoder(file).decoder

    return other


def control_is_the_checkpoint(original: Any) -> Any:
    """What stands for random weights are those of the checkpoint."""

    def load(*given: Any) -> Any:
        loaded = original(*given)
        _module("apr.train.certify").random_decoder = lambda *_: deepcopy(loaded.decoder)
        return loaded

    return load


def flat(original: Any) -> Any:
    """The warm-up is not applied."""
    return lambda step, *, peak, **_: peak


def flat_and_unheeded(original: Any) -> Any:
    """The warm-up is not applied, and nobody heeds step zero."""
    plan = _module("apr.train.plan")
    plan.learning_rate = flat(plan.learning_rate)
    return unheeded()


def in_order(original: Any) -> Any:
    """Windows are read in order."""
    return lambda self, indices: indices


def in_order_and_unheeded(original: Any) -> Any:
    """Windows are read in order, and nobody heeds step zero."""
    _module("apr.data.order").Permutation.many = in_order(None)
    return unheeded()


def later(original: Any) -> Any:
    """With a checkpoint the schedule goes on where another run may have ended."""
    return lambda self, step: original(self, step + (60 if self.from_init else 0))


def later_and_unheeded(original: Any) -> Any:
    """With a checkpoint the schedule goes on, and nobody heeds step zero."""
    plan = _module("apr.train.plan").RunPlan
    plan.learning_rate = later(plan.learning_rate)
    return unheeded()


def random_and_unheeded(original: Any) -> Any:
    """The weights are not loaded, nothing compares the loss, and nobody heeds step zero."""
    _tolerate()
    certify = _module("apr.train.certify")
    certify.load_decoder = start_plants.random_weights(certify.load_decoder)
    return unheeded()


def another_base(original: Any) -> Any:
    """The rotary base is that of another family."""
    return lambda config, length: original(replace(config, rope_theta=5e5), length)


def another_base_and_unheeded(original: Any) -> Any:
    """The rotary base is that of another family, nothing compares the loss, and nobody heeds step zero."""
    _tolerate()
    decoder = _module("apr.model.decoder")
    decoder.rope_tables = another_base(decoder.rope_tables)
    return unheeded()


def with_its_place(original: Any) -> Any:
    """The run directory is in a checkpoint's lineage."""

    def located(path: Path, parameters: Any, facts: Any) -> str:
        digest: str = original(path, parameters, replace(facts, lineage={**facts.lineage, "path": str(path)}))
        return digest

    return located


def what_fits(original: Any) -> Any:
    """Tensors that do not fit are left out, and the rest is taken."""

    def unasked(config: Any, file: Any) -> None:
        _module("apr.train.certify").load_decoder = _loaded_where_it_fits

    return unasked


def _loaded_where_it_fits(file: Any, device: Any) -> Any:
    from apr.aprfile.metadata import read_facts
    from apr.model.initialise import random_decoder
    from apr.model.load import LoadedDecoder

    facts = read_facts(file)
    made = random_decoder(facts.config, 0, device)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if file.entries[name].shape == tuple(parameter.shape):
                parameter.copy_(torch.from_numpy(file.as_f32(name).copy()))
    counts = {"num_tensors": len(file.entries), "num_parameters": 0, "num_compared_bytes": 0}
    return LoadedDecoder(decoder=made, facts=facts, **counts)
