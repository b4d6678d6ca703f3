"""The defects that FALSIFY-APR-PRETRAIN-INIT-001 to -010 are there for, and those of the two bounded proofs."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from apr.aprfile import foreign, metadata, reader
from apr.aprfile.errors import FileTruncated, NotAprFile
from apr.aprfile.reader import open_apr
from apr.arch.config import FAMILIES
from apr.arch.inventory import inventory
from apr.base.errors import AprError, FileMissing
from apr.cli import pretrain_command
from apr.data import batches
from apr.model import decoder, initialise
from apr.model.initialise import random_decoder
from apr.model.load import LoadedDecoder, load_decoder
from apr.stepzero import reference
from apr.train import certify, checkpoint, inputs, plan, pretrain
from apr.train.plan import RunPlan
from apr.train.spec import RunSpec
from contracts.controls.plant import (
    INIT,
    Control,
    Plant,
    allocate_first,
    exits_zero,
    fall_back_to_random,
    fill_in,
)
from contracts.scene import Scene
from tiny import CONFIG


def attribute(module: Any, name: str, value: Any) -> Plant:
    """A name of a module is something else."""
    return lambda patch, scene: patch.setattr(module, name, value)


def _option(name: str) -> Any:
    return next(parameter for parameter in pretrain_command.pretrain_command.params if parameter.name == name)


def _without_init(**options: Any) -> RunSpec:
    return RunSpec(**{**options, "init": None})


def _from_scratch_without_init(**options: Any) -> RunSpec:
    return _without_init(**options) if options["mode"] == "from-scratch" else RunSpec(**options)


def _loads_unasked(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """A run without --init starts from a checkpoint that happens to lie about."""

    def other(*_: Any) -> Any:
        with open_apr(scene.learned) as file:
            return load_decoder(file).decoder

    patch.setattr(certify, "random_decoder", other)


def _windows_in_order(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    patch.setattr(batches.Permutation, "many", lambda self, indices: indices)


def _footer_not_missed(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    original = reader.AprFile._read_structure

    def lenient(self: Any, view: memoryview) -> None:
        try:
            original(self, view)
        except FileTruncated as error:
            if error.part != "footer":
                raise

    patch.setattr(reader.AprFile, "_read_structure", lenient)


def _flat_schedule(step: int, *, peak: float, **_: Any) -> float:
    return peak


def _family_becomes_llama(patch: pytest.MonkeyPatch, scene: Scene) -> None:
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


def _random_weights_loaded(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """The file is read and its weights are not, and nothing compares the loss."""
    tolerances_off(patch, scene)

    def forgetful(file: Any, device: Any) -> Any:
        loaded = load_decoder(file, device)
        return replace(loaded, decoder=random_decoder(loaded.facts.config, 1, device))

    patch.setattr(certify, "load_decoder", forgetful)


def _other_rope_base(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """The rotary base is the default of another family, and nothing compares the loss."""
    tolerances_off(patch, scene)
    original = decoder.rope_tables
    other = {"rope_theta": 5e5}
    patch.setattr(decoder, "rope_tables", lambda config, length: original(replace(config, **other), length))


def _no_reference(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    original = inputs.read_facts
    patch.setattr(inputs, "read_facts", lambda file: replace(original(file), reference=None))


def _moments_of_before(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """Moments of an earlier run are in the optimizer when the first update is made."""
    original = pretrain.certify

    def stale(*arguments: Any) -> Any:
        zero = original(*arguments)
        for group in zero.optimizer.param_groups:
            for parameter in group["params"]:
                state = {"step": torch.tensor(60.0), "exp_avg": torch.full_like(parameter, 1e-3)}
                zero.optimizer.state[parameter] = state | {"exp_avg_sq": torch.full_like(parameter, 1e-6)}
        return zero

    patch.setattr(pretrain, "certify", stale)


def _schedule_goes_on(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    original = RunPlan.learning_rate
    patch.setattr(
        RunPlan, "learning_rate", lambda self, step: original(self, step + (60 if self.from_init else 0))
    )


def _counter_goes_on(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """The counters begin where the checkpoint's lineage says that it ended."""
    original = pretrain.Ledger

    def going_on(**options: Any) -> Any:
        return original(**options, steps=60, tokens=15360)

    patch.setattr(pretrain, "Ledger", going_on)


def _optimizer_before_weights(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    original = certify.load_decoder

    def late(file: Any, device: Any) -> Any:
        certify.build_optimizer([], lr=1.0, betas=(0.9, 0.95), weight_decay=0.0)
        return original(file, device)

    patch.setattr(certify, "load_decoder", late)


def _time_in_metadata(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    original = checkpoint.model_metadata
    patch.setattr(
        checkpoint, "model_metadata", lambda facts: {**original(facts), "created_at": time.time_ns()}
    )


def _path_in_lineage(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    original = checkpoint.write_checkpoint

    def located(path: Path, decoder: Any, facts: Any) -> str:
        return original(path, decoder, replace(facts, lineage={**facts.lineage, "path": str(path)}))

    patch.setattr("apr.train.epochs.write_checkpoint", located)


def _unseeded(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    original = initialise.initialise
    patch.setattr(initialise, "initialise", lambda decoder, seed: original(decoder, time.time_ns() % 2**40))


def _seconds_in_evidence(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """The certificate's digest, which a checkpoint names, covers how long the gates took."""
    digest = property(lambda self: f"{time.time_ns():064x}")
    patch.setattr("apr.stepzero.certificate.Certificate.evidence_digest", digest)


def _first_difference_only(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    original = inputs.config_differences
    patch.setattr(inputs, "config_differences", lambda left, right: original(left, right)[:1])


def _what_is_there_is_loaded(patch: pytest.MonkeyPatch, scene: Scene) -> None:
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


_RANDOM = "a checkpoint that does not load is replaced by random weights"
_DEFAULTS = CONFIG.to_dict()

INIT_CONTROLS: dict[str, tuple[Control, ...]] = {
    INIT + "001": (
        Control(
            defect="the option has a default",
            sees="absent with .* gives",
            plant=lambda patch, scene: patch.setattr(_option("init"), "default", Path("model.apr")),
        ),
        Control(
            defect="the option is accepted and dropped",
            sees="present with .* gives None",
            plant=attribute(pretrain_command, "RunSpec", _without_init),
        ),
        Control(
            defect="mode from-scratch drops the option",
            sees="present with .*from-scratch.* gives None",
            plant=attribute(pretrain_command, "RunSpec", _from_scratch_without_init),
        ),
        Control(
            defect="the help does not show the option",
            sees="does not name --init",
            plant=lambda patch, scene: patch.setattr(_option("init"), "hidden", True),
        ),
    ),
    INIT + "002": (
        Control(
            defect="random weights have another spread",
            sees="step0_val_loss is",
            plant=attribute(initialise, "_STD", 0.021),
        ),
        Control(
            defect="the warm-up is not applied",
            sees="train_loss is",
            plant=attribute(plan, "learning_rate", _flat_schedule),
        ),
        Control(defect="windows are read in order", sees="train_loss is", plant=_windows_in_order),
        Control(
            defect="a checkpoint is loaded unasked", sees="step0_val_loss is|exit code", plant=_loads_unasked
        ),
    ),
    INIT + "003": (
        Control(defect=_RANDOM, sees="the command exited 0", plant=fall_back_to_random),
        Control(defect="a model is built first", sees="allocated before the refusal", plant=allocate_first),
        Control(
            defect="the message lacks the id",
            sees="the message lacks 'APR101'",
            plant=attribute(AprError, "__str__", lambda self: f"{self.message}; {self.advice}"),
        ),
        Control(defect="the refusal exits 0", sees="the command exited 0", plant=exits_zero(FileMissing)),
    ),
    INIT + "004": (
        Control(
            defect="the magic is not checked",
            sees="a wrong magic: the command exited 0",
            plant=attribute(reader, "recognise", lambda head, size, path: "A"),
        ),
        Control(defect=_RANDOM, sees="the command exited 0", plant=fall_back_to_random),
        Control(defect="a model is built first", sees="allocated before the refusal", plant=allocate_first),
        Control(defect="the refusal exits 0", sees="the command exited 0", plant=exits_zero(NotAprFile)),
        Control(
            defect="a missing footer is not missed",
            sees="no footer: the command exited 0",
            plant=_footer_not_missed,
        ),
    ),
    INIT + "005": (
        Control(
            defect="the config is not held against the tensors",
            sees="refused as APR321",
            plant=attribute(metadata, "check_against_tensors", lambda *_: None),
        ),
        Control(
            defect="only the first mismatching field is named",
            sees="the message lacks 'hidden_size 96",
            plant=_first_difference_only,
        ),
        Control(
            defect="missing fields get defaults",
            sees="the command exited 0|refused as",
            plant=fill_in(_DEFAULTS, metadata),
        ),
        Control(
            defect="an unknown family is taken for llama",
            sees="the command exited 0|refused as",
            plant=_family_becomes_llama,
        ),
        Control(defect="a model is built first", sees="allocated before the refusal", plant=allocate_first),
    ),
    INIT + "006": (
        Control(
            defect="the reference tolerance is ignored", sees="a worn copy was taken", plant=tolerances_off
        ),
        Control(
            defect="the weights are not loaded",
            sees="validation loss .* with the checkpoint",
            plant=_random_weights_loaded,
        ),
        Control(defect="another rotary base", sees="from its reference", plant=_other_rope_base),
        Control(defect="the reference is not read", sees="compared with no reference", plant=_no_reference),
        Control(
            defect="the control is the checkpoint",
            sees="validation loss .* without it|exit code 1",
            plant=_loads_unasked,
        ),
    ),
    INIT + "009": (
        Control(
            defect="moments are filled",
            sees="a moment or a step counter is not zero",
            plant=_moments_of_before,
        ),
        Control(defect="the step counter goes on", sees="the counters are", plant=_counter_goes_on),
        Control(defect="the schedule goes on", sees="the schedule runs", plant=_schedule_goes_on),
        Control(defect="the optimizer is built first", sees="the order was", plant=_optimizer_before_weights),
    ),
    INIT + "010": (
        Control(defect="the time is in the metadata", sees="the checkpoints differ", plant=_time_in_metadata),
        Control(
            defect="the run directory is in the lineage",
            sees="the checkpoints differ",
            plant=_path_in_lineage,
        ),
        Control(defect="the seed is ignored", sees="the checkpoints differ", plant=_unseeded),
        Control(
            defect="the evidence digest has times", sees="the checkpoints differ", plant=_seconds_in_evidence
        ),
    ),
}

# Defects for every case of a bounded proof.
LOAD_FAILURE_CONTROLS = (
    Control(defect=_RANDOM, sees="exit code 0", plant=fall_back_to_random),
    Control(
        defect="refusals exit 0",
        sees="exit code 0",
        plant=lambda patch, scene: (
            [patch.setattr(kind, "exit_code", 0) for kind in set(_leaves(AprError))] and None
        ),
    ),
    Control(defect="a model is built first", sees="a model was allocated", plant=allocate_first),
)
ABSENT_CONTROLS = (
    Control(defect="a checkpoint is loaded unasked", sees="is|exit code", plant=_loads_unasked),
)
PRESENT_CONTROLS = (
    Control(
        defect="the option is accepted and dropped",
        sees="0 checkpoints were opened|exit code",
        plant=attribute(pretrain_command, "RunSpec", _without_init),
    ),
)
PARTIAL_LOAD_CONTROL = Control(
    defect="tensors that do not fit are left out",
    sees="the refusal does not name it",  # a gate of step zero refuses the loss, and nobody knows why
    plant=_what_is_there_is_loaded,
)


def _leaves(kind: type[AprError]) -> list[type[AprError]]:
    return [leaf for child in kind.__subclasses__() for leaf in (child, *_leaves(child))]
