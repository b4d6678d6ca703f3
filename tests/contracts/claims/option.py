"""FALSIFY-APR-PRETRAIN-INIT-001 and -002: the option, and what a run without it is."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apr.cli import pretrain_command
from apr.train.spec import RunSpec
from contracts.scene import Scene, call, require_success

MODES = ("finetune", "from-scratch")

GOLDEN_LOSSES = Path(__file__).parents[2] / "golden" / "tiny_losses.json"

LOSS_TOLERANCE = 1e-5  # nats

RECORD = {"outcome": "BUDGET_DONE", "steps": 0}


def dispatched(*arguments: object) -> RunSpec:
    """The request that a command line becomes; nothing is run."""
    specs: list[RunSpec] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain_command, "pretrain", lambda spec, reporter: specs.append(spec) or RECORD)
        outcome = call("pretrain", "--dataset", "d", "--run-dir", "r", "--format", "json", *arguments)
    assert outcome.code == 0, f"exit code {outcome.code}: {outcome.stderr}"
    assert len(specs) == 1, f"{len(specs)} runs were dispatched"
    return specs[0]


def option_parses(scene: Scene) -> None:
    """INIT-001: absent is None, present is a path, in every mode; the help names it; a value is demanded."""
    for mode in ((), *(("--mode", mode) for mode in MODES)):
        absent = dispatched(*mode)
        assert absent.init is None, f"absent with {mode} gives {absent.init!r}"
        for spelling in (("--init", "model.apr"), ("--init=model.apr",)):
            present = dispatched(*mode, *spelling)
            assert present.init == Path("model.apr"), f"present with {mode} gives {present.init!r}"
            assert replace(present, init=None) == absent, f"--init with {mode} changes another value"
    page = call("pretrain", "--help")
    assert page.code == 0
    assert re.search(r"^\s+--init PATH\s+\w+", page.stdout, re.MULTILINE), "the help does not name --init"
    assert call("pretrain", "--dataset", "d", "--run-dir", "r", "--init").code == 2, (
        "--init without a value passed"
    )


def golden_run(scene: Scene, mode: str) -> dict[str, Any]:
    """The losses of a run from scratch through the command line."""
    options = ("--arch", scene.arch, "--mode", mode, "--warmup-steps", 2, "--steps-per-epoch", 4)
    run = require_success(scene.pretrain(*options, steps=8))
    return {
        "step0_val_loss": run.certificate["step0"]["val_loss"],
        "train_loss": [line["train_loss"] for line in run.metrics],
        "val_loss": [run.read(f"ckpt/epoch-00{epoch}.metadata.json")["val_loss"] for epoch in (1, 2)],
    }


def shard_digests(scene: Scene) -> list[str]:
    manifests = [json.loads((scene.shards / part / "manifest.json").read_bytes()) for part in (".", "val")]
    return [shard["sha256"] for manifest in manifests for shard in manifest["shards"]]


def absence_keeps_golden_losses(scene: Scene, mode: str) -> None:
    """INIT-002: without --init, the losses of the tiny model are the recorded ones."""
    golden = json.loads(GOLDEN_LOSSES.read_bytes())
    assert shard_digests(scene) == golden["shards_sha256"], (
        "the corpus is not the one the losses were recorded on"
    )
    found, expected = golden_run(scene, mode), golden["losses"][mode]
    pairs = [("step0_val_loss", [found["step0_val_loss"]], [expected["step0_val_loss"]])]
    pairs += [(name, found[name], expected[name]) for name in ("train_loss", "val_loss")]
    for name, ours, theirs in pairs:
        gaps = [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
        assert max(gaps) <= LOSS_TOLERANCE, f"{mode}: {name} is {ours}, recorded {theirs}"
