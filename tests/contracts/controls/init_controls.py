"""The controls of FALSIFY-APR-PRETRAIN-INIT-001 to -010, and of the two bounded proofs."""

from __future__ import annotations

from pathlib import Path

from apr.aprfile import metadata, reader
from apr.aprfile.errors import NotAprFile
from apr.base.errors import AprError, FileMissing
from apr.cli import pretrain_command
from apr.model import initialise
from apr.train import plan
from contracts.controls.init_plants import (
    attribute,
    counter_goes_on,
    family_becomes_llama,
    first_difference_only,
    flat_schedule,
    footer_not_missed,
    from_scratch_without_init,
    leaves,
    loads_unasked,
    moments_of_before,
    no_reference,
    optimizer_before_weights,
    option,
    other_rope_base,
    path_in_lineage,
    random_weights_loaded,
    refused_and_seen,
    schedule_goes_on,
    seconds_in_evidence,
    time_in_metadata,
    tolerances_off,
    unseeded,
    what_is_there_is_loaded,
    windows_in_order,
    without_init,
)
from contracts.controls.plant import INIT, Control, allocate_first, exits_zero, fall_back_to_random, fill_in
from tiny import CONFIG

_RANDOM = "a checkpoint that does not load is replaced by random weights"

_DEFAULTS = CONFIG.to_dict()

INIT_CONTROLS: dict[str, tuple[Control, ...]] = {
    INIT + "001": (
        Control(
            defect="the option has a default",
            sees="absent with .* gives",
            plant=lambda patch, scene: patch.setattr(option("init"), "default", Path("model.apr")),
        ),
        Control(
            defect="the option is accepted and dropped",
            sees="present with .* gives None",
            plant=attribute(pretrain_command, "RunSpec", without_init),
        ),
        Control(
            defect="mode from-scratch drops the option",
            sees="present with .*from-scratch.* gives None",
            plant=attribute(pretrain_command, "RunSpec", from_scratch_without_init),
        ),
        Control(
            defect="the help does not show the option",
            sees="does not name --init",
            plant=lambda patch, scene: patch.setattr(option("init"), "hidden", True),
        ),
    ),
    INIT + "002": (
        Control(
            defect="random weights have another spread",
            sees="step0_val_loss is",
            plant=attribute(initialise, "_STD", 0.021),
        ),
        *refused_and_seen(
            "the warm-up is not applied",
            "optimizer.schedule",
            "train_loss is",
            attribute(plan, "learning_rate", flat_schedule),
        ),
        *refused_and_seen("windows are read in order", "data.order", "train_loss is", windows_in_order),
        Control(
            defect="a checkpoint is loaded unasked", sees="step0_val_loss is|exit code", plant=loads_unasked
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
            plant=footer_not_missed,
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
            sees="the message lacks .*hidden_size",
            plant=first_difference_only,
        ),
        Control(
            defect="missing fields get defaults",
            sees="the command exited 0|refused as",
            plant=fill_in(_DEFAULTS, metadata),
        ),
        Control(
            defect="an unknown family is taken for llama",
            sees="the command exited 0|refused as",
            plant=family_becomes_llama,
        ),
        Control(defect="a model is built first", sees="allocated before the refusal", plant=allocate_first),
    ),
    INIT + "006": (
        Control(
            defect="the reference tolerance is ignored", sees="a worn copy was taken", plant=tolerances_off
        ),
        *refused_and_seen(
            "the weights are not loaded",
            "weights.memory",
            "validation loss .* with the checkpoint",
            random_weights_loaded,
        ),
        *refused_and_seen("another rotary base", "model.built", "from its reference", other_rope_base),
        Control(defect="the reference is not read", sees="compared with no reference", plant=no_reference),
        Control(
            defect="the control is the checkpoint",
            sees="validation loss .* without it|exit code 1",
            plant=loads_unasked,
        ),
    ),
    INIT + "009": (
        Control(
            defect="moments are filled",
            sees="a moment or a step counter is not zero",
            plant=moments_of_before,
        ),
        Control(defect="the step counter goes on", sees="the counters are", plant=counter_goes_on),
        *refused_and_seen(
            "the schedule goes on", "optimizer.schedule", "the schedule runs", schedule_goes_on
        ),
        Control(defect="the optimizer is built first", sees="the order was", plant=optimizer_before_weights),
    ),
    INIT + "010": (
        Control(defect="the time is in the metadata", sees="the checkpoints differ", plant=time_in_metadata),
        Control(
            defect="the run directory is in the lineage",
            sees="the checkpoints differ",
            plant=path_in_lineage,
        ),
        Control(defect="the seed is ignored", sees="the checkpoints differ", plant=unseeded),
        Control(
            defect="the evidence digest has times", sees="the checkpoints differ", plant=seconds_in_evidence
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
            [patch.setattr(kind, "exit_code", 0) for kind in set(leaves(AprError))] and None
        ),
    ),
    Control(defect="a model is built first", sees="a model was allocated", plant=allocate_first),
)

ABSENT_CONTROLS = (
    Control(defect="a checkpoint is loaded unasked", sees="is|exit code", plant=loads_unasked),
)

PRESENT_CONTROLS = (
    Control(
        defect="the option is accepted and dropped",
        sees="0 checkpoints were opened|exit code",
        plant=attribute(pretrain_command, "RunSpec", without_init),
    ),
)

PARTIAL_LOAD_CONTROL = Control(
    defect="tensors that do not fit are left out",
    sees="the refusal does not name it",  # a gate of step zero refuses the loss, and nobody knows why
    plant=what_is_there_is_loaded,
)
