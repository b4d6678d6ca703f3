"""FALSIFY-APR-PRETRAIN-ARCH-007 and -INIT-010 once more, through a process of the program's own.

Run by pytest once; as part of a claim they would be run again under each of its defects, for seconds each.
"""

from __future__ import annotations

from command import run_apr
from contracts.claims.encoders import Encoders
from contracts.claims.start import require_equal_checkpoints
from contracts.real_runs import RealRuns
from contracts.scene import Scene, require_success


def test_an_encoder_is_refused(scene: Scene, encoders: Encoders) -> None:
    run_dir, disguised = scene.new("run"), encoders.files[1]
    options = (
        "--tokenizer",
        scene.model,
        "--dataset",
        scene.shards,
        "--run-dir",
        run_dir,
        "--format",
        "json",
    )
    done = run_apr("pretrain", "--init", disguised, *options)
    assert (done.code, done.error_id, run_dir.exists()) == (1, "APR304", False)
    assert "Traceback" not in done.stderr


def test_it_writes_the_same_bytes(scene: Scene) -> None:
    here = require_success(scene.pretrain("--init", scene.learned, "--seed", 42))
    size = ("--seq-length", "32", "--batch-size", "4", "--val-tokens", "512", "--dtype", "fp32")
    there = RealRuns(scene.learned, scene.shards, scene.new("runs"), size).first
    require_equal_checkpoints(here, there)
