"""The two bounded proofs: absence implies the old behaviour, a load failure implies a non-zero exit."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from apr.aprfile.reader import open_apr
from contracts.claims.option import MODES, absence_keeps_golden_losses
from contracts.claims.refusals import lying_model, with_magic
from contracts.claims.start import kept
from contracts.scene import Run, Scene, Words, names, require_success, watch_allocations
from tiny import CONFIG, make_model, make_weights

FAILURES = ("missing file", "wrong magic", "architecture mismatch", "tensor mismatch")
STARTS = ("absent", "present")
ABSENCE_DOMAIN = tuple(product(MODES, STARTS))
FAILURE_DOMAIN = tuple(product(FAILURES, MODES))


def failing_init(scene: Scene, failure: str) -> tuple[Path, Words]:
    """A file that fails to load, of each class, and what its refusal must name."""
    if failure == "missing file":
        path = scene.new("absent.apr")
        return path, str(path)
    if failure == "wrong magic":
        path = scene.write_bytes(with_magic(scene.model.read_bytes(), b"XYZ\0"))
        return path, str(path)
    if failure == "architecture mismatch":
        return lying_model(scene, intermediate_size=128), ("intermediate_size", 128, 256)
    weights, name = make_weights(CONFIG), "model.layers.1.self_attn.o_proj.weight"
    weights[name] = weights[name][:, :32].copy()
    path = make_model(scene.new("narrow.apr"), tokenizer=scene.tokenizer, oracle="none", weights=weights)
    return path, (name, "[64, 32]", "[64, 64]")


def load_failure_exits_non_zero(scene: Scene, failure: str, mode: str) -> None:
    """A failure to load ends the command with a refusal that names it, before step 1, without a fallback."""
    path, says = failing_init(scene, failure)
    with watch_allocations() as allocated:
        run = scene.pretrain("--init", path, "--arch", scene.arch, "--mode", mode, steps=1)
    assert run.code in (1, 2), f"exit code {run.code}"
    message = run.stderr.strip().splitlines()[-1]
    assert names(message, says), f"the refusal does not name it: {message}"
    assert not allocated, "a model was allocated for a checkpoint that does not load"
    assert not run.run_dir.exists(), "a refused run left something"


def init_decides_the_start_and_nothing_else(scene: Scene, mode: str, present: bool) -> None:
    """Absent: the golden run, and no reader of checkpoints is called. Present: the same plan, from the file."""
    opened: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("apr.train.inputs.open_apr", kept(open_apr, opened))
        if not present:
            absence_keeps_golden_losses(scene, mode)
            assert not opened, "a run without --init opened a checkpoint"
            return
        run = require_success(scene.pretrain("--init", scene.learned, "--mode", mode))
    assert [file.path for file in opened] == [scene.learned], f"{len(opened)} checkpoints were opened"
    without = require_success(scene.pretrain("--arch", scene.arch, "--mode", mode))
    ours, theirs = (plan_values(each) for each in (run, without))
    assert (ours.pop("from_init"), theirs.pop("from_init")) == (True, False)
    assert ours == theirs, "--init changes another value of the plan"
    step0 = run.certificate["step0"]["val_loss"]
    assert step0 < 2.7 < 5.3 < without.certificate["step0"]["val_loss"], f"the run starts at {step0}"


def plan_values(run: Run) -> dict[str, Any]:
    return {name: item["value"] for name, item in run.read("plan.json")["values"].items()}
