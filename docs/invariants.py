"""The invariants of the training loop: what each says, the defects planted against its falsifier, other tests of it.

The defects are those of contracts/training-loop-pretrain-v1.yaml. A test holds this table against the falsifiers
(tests/contracts/test_training_loop_pretrain.py), so that it cannot drift.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from pv.contract.control import Control
from pv.run.reading import read_contracts

ROOT = Path(__file__).parents[1]
CONTRACT = ROOT / "contracts" / "training-loop-pretrain-v1.yaml"
PLANTS = ROOT / "tests" / "contracts" / "controls" / "training_plants.py"
_PREFIX = "FALSIFY-INV-TRAIN-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """What must hold, and how that can be refuted."""

    says: str
    more: tuple[str, ...] = ()  # other tests of it, as file::test below tests/


INVARIANTS: dict[str, Invariant] = {
    "INV-TRAIN-001": Invariant(
        says="every step logs loss, gradient norm before clipping, the optimizer's learning rate and speed; what was "
        "not measured is null",
        more=("train/test_whole_runs.py::test_every_step_is_logged_as_it_was",),
    ),
    "INV-TRAIN-002": Invariant(
        says="every epoch writes a checkpoint and its metadata, which follow from the steps",
        more=("train/test_whole_runs.py::test_every_epoch_has_its_metadata",),
    ),
    "INV-TRAIN-003": Invariant(
        says="optimizer_state_sha is the digest of the state on the disk",
        more=("train/test_whole_runs.py::test_the_optimizers_digest_is_the_files",),
    ),
    "INV-TRAIN-004": Invariant(
        says="an epoch gains above the noise or spends patience: two epochs, and not before the third",
        more=(
            "train/test_ledgers.py::test_patience_is_two_epochs_and_not_before_the_third",
            "train/test_whole_runs.py::test_spent_patience_is_an_early_stop",
        ),
    ),
    "INV-TRAIN-005": Invariant(
        says="validation losses stay within two-sided bounds",
        more=("train/test_ledgers.py::test_a_loss_that_doubles_is_fatal",),
    ),
    "INV-TRAIN-006": Invariant(
        says="the same seed gives the same bits, and another seed others",
        more=("train/test_whole_runs.py::test_a_seed_decides_everything",),
    ),
    "INV-TRAIN-007": Invariant(
        says="NaN or infinity ends the run within the step, before the update",
        more=("train/test_training_updates.py::test_a_loss_that_is_not_finite_stops_before_the_update",),
    ),
    "INV-TRAIN-008": Invariant(
        says="throughput is finite and positive, whatever the wall clock does",
        more=("train/test_resumed_runs.py::test_no_clock_is_believed",),
    ),
    "INV-TRAIN-009": Invariant(
        says="the mode flips its values together, and an option wins over it",
        more=("train/test_run_plans.py::test_a_mode_flips_four_values_together",),
    ),
    "INV-TRAIN-010": Invariant(
        says="without --synthetic the run is real",
        more=("train/test_whole_runs.py::test_no_artifact_of_a_real_run_says_synthetic",),
    ),
    "INV-TRAIN-011": Invariant(
        says="an exhausted stream is an error, or a cycle that was allowed; a constant placeholder never",
        more=("train/test_whole_runs.py::test_a_cycle_that_is_allowed_goes_on",),
    ),
    "INV-TRAIN-012": Invariant(
        says="the tokens planned are the tokens consumed, each window once, in exactly the steps asked for",
        more=(
            "train/test_whole_runs.py::test_windows_that_were_not_consumed_are_noticed",
            "train/test_training_updates.py::test_exactly_so_many_steps_from_so_many_batches",
        ),
    ),
    "INV-TRAIN-013": Invariant(
        says="the saved file read back equals the live weights",
        more=("train/test_whole_runs.py::test_a_checkpoint_that_reads_back_otherwise_ends_the_run",),
    ),
    "INV-TRAIN-014": Invariant(
        says="a run that is killed and resumed, twice in a row, ends in the bits of an undisturbed one",
        more=("train/test_resumed_runs.py::test_killed_after_any_step_the_run_ends_in_the_same_bytes",),
    ),
    "accumulation": Invariant(
        says="k micro-batches of unequal tokens give the loss and the gradient of one batch, to 1e-6 in fp32",
        more=("train/test_training_updates.py::test_accumulation_is_the_whole_batch",),
    ),
    "clipping": Invariant(
        says="the gradient is clipped to the global norm before the update, and its norm before that is what is logged",
        more=("train/test_training_updates.py::test_three_steps_are_those_of_a_loop_by_hand",),
    ),
}


def defects() -> dict[str, tuple[str, ...]]:
    """The defects planted against each invariant's falsifier, in words, in the order of the contract."""
    (contract,) = read_contracts(CONTRACT).contracts
    words = {
        node.name: _words(node)
        for node in ast.parse(PLANTS.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    return {
        _name(part.id): tuple(_told(control, words) for control in part.controls) for part in contract.tests
    }


def _name(id: str) -> str:
    number = id.removeprefix(_PREFIX)
    return f"INV-TRAIN-{number}" if number.isdigit() else number.lower()


def _words(function: ast.FunctionDef) -> str:
    said = (ast.get_docstring(function) or "").partition("\n")[0].removesuffix(".")
    return said if said[1:2].isupper() else said[:1].lower() + said[1:]


def _told(control: Control, words: dict[str, str]) -> str:
    assert control.patch is not None
    assert control.replacement is not None
    if control.replacement.how == "with":
        return words[str(control.replacement.value).partition(":")[2]]
    verb = "gives" if control.replacement.how == "returns" else "is"
    value = "nothing" if control.replacement.value is None else control.replacement.value
    return f"`{control.patch.partition(':')[2]}` {verb} {value}"
