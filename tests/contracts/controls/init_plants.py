"""The defects that FALSIFY-APR-PRETRAIN-INIT-001 to -010 are there for, as changes of the program."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from apr.aprfile import foreign, metadata, reader
from apr.aprfile.errors import FileTruncated
from apr.aprfile.reader import open_apr
from apr.arch.config import FAMILIES
from apr.arch.inventory import inventory
from apr.base.errors import AprError
from apr.cli import pretrain_command
from apr.data import batches
from apr.model import decoder, initialise
from apr.model.initialise import random_decoder
from apr.model.load import LoadedDecoder, load_decoder
from apr.stepzero import reference
from apr.train import certify, checkpoint, inputs
from apr.train import run as run_module
from apr.train.plan import RunPlan
from apr.train.spec import RunSpec
from contracts.controls.plant import Control, Plant
from contracts.scene import Scene


def refused_and_seen(defect: str, gate: str, sees: str, plant: Plant) -> tuple[Control, Control]:
    """A defect that a gate of step zero refuses, and the same where nobody heeds step zero."""
    refused = rf"step zero refused the run at its gate {gate}: "
    return (
        Control(defect=defect, sees=refused, plant=plant),
        Control(defect=f"{defect} and step zero is not heeded", sees=sees, plant=unheeded(plant)),
    )


def attribute(module: Any, name: str, value: Any) -> Plant:
    """A name of a module is something else."""
    return lambda patch, scene: patch.setattr(module, name, value)


def option(name: str) -> Any:
    return next(parameter for parameter in pretrain_command.pretrain_command.params if parameter.name == name)


def without_init(**options: Any) -> RunSpec:
    return RunSpec(**{**options, "init": None})


def from_scratch_without_init(**options: Any) -> RunSpec:
    return without_init(**options) if options["mode"] == "from-scratch" else RunSpec(**options)


def loads_unasked(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """A run without --init starts from a checkpoint that happens to lie about."""

    def other(*_: Any) -> Any:
        with open_apr(scene.learned) as file:
            return load_decoder(file).decoder

    patch.setattr(certify, "random_decoder", other)


def windows_in_order(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    patch.setattr(batches.Permutation, "many", lambda self, indices: indices)


def footer_not_missed(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    original = reader.AprFile._read_structure

    def lenient(self: Any, view: memoryview) -> None:
        try:
            original(self, view)
        except FileTruncated as error:
            if error.part != "footer":
                raise

    patch.setattr(reader.AprFile, "_read_structure", lenient)


def flat_schedule(step: int, *, peak: float, **_: Any) -> float:
    return peak


def family_becomes_llama(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    original = metadata.parse_config

    def lenient(values: Any, source: str) -> Any:
        known = values["family"] in FAMILIES
        return original(values if known else {**values, "family": "llama"}, source)

    patch.setattr(metadata, "parse_config", lenient)
    for stamp in ("mamba", "mambaforcausallm"):
        patch.setitem(foreign._SLUGS, stamp, "llama")


def tolerances_off(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    for name in ("LOSS_TOLERANCE", "BLOCK_TOLERANCE"):
        patch.setattr(reference, name, 1e9)
    patch.setattr(reference, "TRAINING_TOLERANCE", dict.fromkeys(("fp32", "bf16"), 1e9))


def unheeded(plant: Plant) -> Plant:
    """A defect, and nobody heeds what step zero says of it: the falsifier must see it without that help."""

    def both(patch: pytest.MonkeyPatch, scene: Scene) -> None:
        plant(patch, scene)
        patch.setattr(certify.Court, "refused", False)
        patch.setattr(run_module.Run, "_require_passed", lambda self, certificate: None)

    return both


def random_weights_loaded(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """The file is read and its weights are not, and nothing compares the loss."""
    tolerances_off(patch, scene)

    def forgetful(file: Any, device: Any) -> Any:
        loaded = load_decoder(file, device)
        return replace(loaded, decoder=random_decoder(loaded.facts.config, 1, device))

    patch.setattr(certify, "load_decoder", forgetful)


def other_rope_base(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """The rotary base is the default of another family, and nothing compares the loss."""
    tolerances_off(patch, scene)
    original = decoder.rope_tables
    other = {"rope_theta": 5e5}
    patch.setattr(decoder, "rope_tables", lambda config, length: original(replace(config, **other), length))


def no_reference(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    original = inputs.read_facts
    patch.setattr(inputs, "read_facts", lambda file: replace(original(file), reference=None))


def moments_of_before(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """Moments of an earlier run are in the optimizer when the first update is made."""
    original = run_module.certify

    def stale(*arguments: Any) -> Any:
        zero = original(*arguments)
        for group in zero.optimizer.param_groups:
            for parameter in group["params"]:
                state = {"step": torch.tensor(60.0), "exp_avg": torch.full_like(parameter, 1e-3)}
                zero.optimizer.state[parameter] = state | {"exp_avg_sq": torch.full_like(parameter, 1e-6)}
        return zero

    patch.setattr(run_module, "certify", stale)


def schedule_goes_on(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    original = RunPlan.learning_rate
    patch.setattr(
        RunPlan, "learning_rate", lambda self, step: original(self, step + (60 if self.from_init else 0))
    )


def counter_goes_on(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """The counters begin where the checkpoint's lineage says that it ended."""
    original = run_module.Ledger

    def going_on(**options: Any) -> Any:
        return original(**options, steps=60, tokens=15360)

    patch.setattr(run_module, "Ledger", going_on)


def optimizer_before_weights(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    original = certify.load_decoder

    def late(file: Any, device: Any) -> Any:
        certify.build_optimizer([], lr=1.0, betas=(0.9, 0.95), weight_decay=0.0)
        return original(file, device)

    patch.setattr(certify, "load_decoder", late)


def time_in_metadata(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    original = checkpoint.model_metadata
    patch.setattr(
        checkpoint, "model_metadata", lambda facts: {**original(facts), "created_at": time.time_ns()}
    )


def path_in_lineage(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    original = checkpoint.write_checkpoint

    def located(path: Path, parameters: Any, facts: Any) -> str:
        return original(path, parameters, replace(facts, lineage={**facts.lineage, "path": str(path)}))

    patch.setattr("apr.train.saver.write_checkpoint", located)


def unseeded(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    original = initialise.initialise
    patch.setattr(initialise, "initialise", lambda decoder, seed: original(decoder, time.time_ns() % 2**40))


def seconds_in_evidence(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """The certificate's digest, which a checkpoint names, covers how long the gates took."""
    digest = property(lambda self: f"{time.time_ns():064x}")
    patch.setattr("apr.stepzero.certificate.Certificate.evidence_digest", digest)


def first_difference_only(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    original = inputs.config_differences
    patch.setattr(inputs, "config_differences", lambda left, right: original(left, right)[:1])


def what_is_there_is_loaded(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """Tensors that do not fit are left out, and the rest is taken (strict=False)."""
    patch.setattr(inputs, "require_coverage", lambda config, file: None)
    patch.setattr(metadata, "check_against_tensors", lambda *_: None)

    def lenient(file: Any, device: Any) -> Any:
        config = metadata.read_facts(file).config
        made = random_decoder(config, 0, device)
        with torch.no_grad():
            for name, parameter in made.named_parameters():
                if file.entries[name].shape == tuple(parameter.shape):
                    parameter.copy_(torch.from_numpy(file.as_f32(name).copy()))
        counts = {"num_tensors": len(inventory(config)), "num_parameters": 0, "num_compared_bytes": 0}
        return LoadedDecoder(decoder=made, facts=metadata.read_facts(file), **counts)

    patch.setattr(certify, "load_decoder", lenient)


def leaves(kind: type[AprError]) -> list[type[AprError]]:
    return [leaf for child in kind.__subclasses__() for leaf in (child, *leaves(child))]
