"""INV-TRAIN-001 to 014: the falsifiers, whose defects are in contracts/training-loop-pretrain-v1.yaml."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from contracts.claims import training, updates
from contracts.claims.training import Claim
from contracts.scene import Scene

ROOT = Path(__file__).parents[2]
FALSIFIERS: dict[str, Claim] = {
    "INV-TRAIN-001": training.steps_log_what_was_measured,
    "INV-TRAIN-002": training.epochs_say_what_their_steps_give,
    "INV-TRAIN-003": training.the_optimizers_digest_is_of_the_file,
    "INV-TRAIN-004": training.patience_is_two_epochs_above_the_noise,
    "INV-TRAIN-005": training.losses_have_two_bounds,
    "INV-TRAIN-006": training.a_seed_decides_every_bit,
    "INV-TRAIN-007": training.nan_ends_the_run_before_the_update,
    "INV-TRAIN-008": training.throughput_is_of_no_wall_clock,
    "INV-TRAIN-009": training.a_mode_flips_its_values_and_an_option_wins,
    "INV-TRAIN-010": training.a_run_is_real_unless_told,
    "INV-TRAIN-011": training.an_exhausted_stream_is_no_data,
    "INV-TRAIN-012": training.what_was_planned_is_consumed,
    "INV-TRAIN-013": training.the_file_is_what_is_in_memory,
    "INV-TRAIN-014": training.resumed_twice_is_undisturbed,
    "accumulation": updates.micro_batches_are_one_batch,
    "clipping": updates.gradients_are_clipped_before_the_update,
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Without the files of a learned model, which nothing here reads."""
    return Scene(tmp_path_factory.mktemp("scene"))


@pytest.mark.claim
@pytest.mark.parametrize("id", FALSIFIERS)
def test_it_holds(id: str, scene: Scene) -> None:
    FALSIFIERS[id](scene)


def table() -> ModuleType:
    """docs/invariants.py, which is no package."""
    path = ROOT / "docs/invariants.py"
    spec = importlib.util.spec_from_file_location("invariants", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["invariants"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_says_what_is_tested() -> None:
    page = table()
    invariants, planted = page.INVARIANTS, page.defects()
    assert [id for id in invariants if id.startswith("INV")] == [f"INV-TRAIN-{n:03d}" for n in range(1, 15)]
    assert list(invariants) == list(FALSIFIERS) == list(planted)
    for id, invariant in invariants.items():
        assert all(planted[id]), f"a defect of {id} has no words"
        for name in invariant.more:
            file, _, test = name.partition("::")
            assert f"def {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), name
