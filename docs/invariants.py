"""The invariants of the training loop: what each says, the defects planted against its falsifier, other tests of it.

A test holds this table against the tests (tests/contracts/test_training_loop_pretrain.py), so that it cannot drift.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """What must hold, and how that can be refuted."""

    says: str
    defects: tuple[str, ...]  # planted one at a time; the falsifier fails under each
    more: tuple[str, ...] = ()  # other tests of it, as file::test below tests/


INVARIANTS: dict[str, Invariant] = {
    "INV-TRAIN-001": Invariant(
        says="every step logs loss, gradient norm before clipping, the optimizer's learning rate and speed; what was "
        "not measured is null",
        defects=(
            "the logged rate is the plan's peak",
            "the utilisation of a GPU is invented",
            "the logged norm is that after clipping",
        ),
        more=("train/test_whole_runs.py::test_every_step_is_logged_as_it_was",),
    ),
    "INV-TRAIN-002": Invariant(
        says="every epoch writes a checkpoint and its metadata, which follow from the steps",
        defects=("the epoch's loss is its last step's", "an epoch's metadata is not written"),
        more=("train/test_whole_runs.py::test_every_epoch_has_its_metadata",),
    ),
    "INV-TRAIN-003": Invariant(
        says="optimizer_state_sha is the digest of the state on the disk",
        defects=("the digest of the optimizer's state is invented",),
        more=("train/test_whole_runs.py::test_the_optimizers_digest_is_the_files",),
    ),
    "INV-TRAIN-004": Invariant(
        says="an epoch gains above the noise or spends patience: two epochs, and not before the third",
        defects=("noise counts as a gain", "patience is one epoch", "patience is spent in the second epoch"),
        more=(
            "train/test_ledgers.py::test_patience_is_two_epochs_and_not_before_the_third",
            "train/test_whole_runs.py::test_spent_patience_is_an_early_stop",
        ),
    ),
    "INV-TRAIN-005": Invariant(
        says="validation losses stay within two-sided bounds",
        defects=(
            "the first loss has no bound above",
            "a loss may double",
            "a loss too good to be true passes",
        ),
        more=("train/test_ledgers.py::test_a_loss_that_doubles_is_fatal",),
    ),
    "INV-TRAIN-006": Invariant(
        says="the same seed gives the same bits, and another seed others",
        defects=("the order of the data has a seed of its own", "the seed is not used"),
        more=("train/test_whole_runs.py::test_a_seed_decides_everything",),
    ),
    "INV-TRAIN-007": Invariant(
        says="NaN or infinity ends the run within the step, before the update",
        defects=("NaN is let through", "NaN is seen after the update"),
        more=("train/test_training_updates.py::test_a_loss_that_is_not_finite_stops_before_the_update",),
    ),
    "INV-TRAIN-008": Invariant(
        says="throughput is finite and positive, whatever the wall clock does",
        defects=("speed is measured with the wall clock",),
        more=("train/test_resumed_runs.py::test_no_clock_is_believed",),
    ),
    "INV-TRAIN-009": Invariant(
        says="the mode flips its values together, and an option wins over it",
        defects=("one value of the mode stays", "the mode wins over the option"),
        more=("train/test_run_plans.py::test_a_mode_flips_four_values_together",),
    ),
    "INV-TRAIN-010": Invariant(
        says="without --synthetic the run is real",
        defects=("the run is synthetic unless told otherwise",),
        more=("train/test_whole_runs.py::test_no_artifact_of_a_real_run_says_synthetic",),
    ),
    "INV-TRAIN-011": Invariant(
        says="an exhausted stream is an error, or a cycle that was allowed; a constant placeholder never",
        defects=("an exhausted stream begins again without a word", "an exhausted stream gives the loss 1.0"),
        more=("train/test_whole_runs.py::test_a_cycle_that_is_allowed_goes_on",),
    ),
    "INV-TRAIN-012": Invariant(
        says="the tokens planned are the tokens consumed, each window once, in exactly the steps asked for",
        defects=("a batch is read twice", "one step less is made", "one step more is made"),
        more=(
            "train/test_whole_runs.py::test_windows_that_were_not_consumed_are_noticed",
            "train/test_training_updates.py::test_exactly_so_many_steps_from_so_many_batches",
        ),
    ),
    "INV-TRAIN-013": Invariant(
        says="the saved file read back equals the live weights",
        defects=("a tensor is saved as it was before", "the file is not compared with what is in memory"),
        more=("train/test_whole_runs.py::test_a_checkpoint_that_reads_back_otherwise_ends_the_run",),
    ),
    "INV-TRAIN-014": Invariant(
        says="a run that is killed and resumed, twice in a row, ends in the bits of an undisturbed one",
        defects=(
            "the data begins again at a resume",
            "the moments are left behind",
            "the rate is another after a resume",
        ),
        more=("train/test_resumed_runs.py::test_killed_after_any_step_the_run_ends_in_the_same_bytes",),
    ),
    "accumulation": Invariant(
        says="k micro-batches of unequal tokens give the loss and the gradient of one batch, to 1e-6 in fp32",
        defects=("every micro-batch weighs alike", "only the last micro-batch counts"),
        more=("train/test_training_updates.py::test_accumulation_is_the_whole_batch",),
    ),
    "clipping": Invariant(
        says="the gradient is clipped to the global norm before the update, and its norm before that is what is logged",
        defects=("the gradient is clipped after the update", "every tensor is clipped alone"),
        more=("train/test_training_updates.py::test_three_steps_are_those_of_a_loop_by_hand",),
    ),
}
