"""FALSIFY-APR-PRETRAIN-INIT-006, -009 and -010: what a run with a checkpoint starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from apr.aprfile.keys import OWN_KEY
from apr.aprfile.reader import open_apr
from apr.stepzero.errors import StepZeroRefused
from apr.train import certify
from apr.train import run as run_module
from contracts.scene import Run, Scene, require_success

REFERENCE_TOLERANCE = 1e-3  # nats


def step0_signal(
    step0: Mapping[str, float], *, val_at_most: float, random_at_least: float, gap: float
) -> None:
    """The claim of INIT-006 about the figures of a certificate, in nats."""
    val, random = step0["val_loss"], step0["random_init_loss"]
    assert 0 < val <= val_at_most, f"validation loss {val} with the checkpoint, the limit is {val_at_most}"
    assert random >= random_at_least, (
        f"validation loss {random} without it, at least {random_at_least} expected"
    )
    assert random - val >= gap, f"the gap is {random - val}, at least {gap} expected"
    delta = step0["reference_delta"]
    assert delta is not None, "the loss was compared with no reference"
    assert delta <= REFERENCE_TOLERANCE, f"the loss is {delta} from its reference"


def probe_is_the_recorded_one(run: Run, path: Path) -> None:
    """The reference compared with is the file's, and the difference is one of the two losses."""
    with open_apr(path, "structure") as file:
        recorded = file.metadata[OWN_KEY]["reference"]["loss"]
    facts = run.gate("reference.loss")["facts"]
    assert facts["reference_loss"] == recorded, "the reference is not the file's"
    assert abs(facts["loss"] - recorded) <= REFERENCE_TOLERANCE, f"the loss {facts['loss']} is not {recorded}"


def tiny_step0_signal(scene: Scene) -> None:
    """INIT-006 on a tiny model that has learned its corpus: gap, reference, and a worn copy that is refused."""
    run = require_success(scene.pretrain("--init", scene.learned))
    step0_signal(run.certificate["step0"], val_at_most=2.7, random_at_least=5.3, gap=3.0)
    probe_is_the_recorded_one(run, scene.learned)
    without = require_success(scene.pretrain("--arch", scene.arch))
    assert without.certificate["step0"]["val_loss"] >= 5.3, "a run without --init starts from learned weights"
    worn_copy_is_refused(scene)


def worn_copy_is_refused(scene: Scene) -> None:
    """A checkpoint far below every threshold is still refused when its loss is not the recorded one."""
    worn = scene.pretrain("--init", scene.worn, steps=1)
    assert worn.code == 1, f"a worn copy was taken: exit code {worn.code}"
    assert worn.error_id == StepZeroRefused.id
    assert "reference" in worn.stderr.strip().splitlines()[-1]
    assert worn.read("record.json")["outcome"] == "REFUSED"
    assert not (worn.run_dir / "ckpt").exists(), "a checkpoint was written of a worn copy"
    refused = [gate["id"] for gate in worn.read("certificate.json")["gates"] if gate["verdict"] == "no"]
    assert refused[0].startswith("reference."), f"the worn copy is refused at {refused[0]}"
    unknown = scene.pretrain("--init", scene.worn_without_reference, steps=1)
    assert unknown.code == 0, "the worn copy is caught by a threshold already: it shows nothing"


def optimizer_is_fresh(scene: Scene) -> None:
    """INIT-009: with --init, also of a checkpoint that was trained, moments are zero and every counter is 0."""
    for init in (scene.learned, scene.trained_checkpoint):
        starts, order = [], []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run_module, "certify", kept(run_module.certify, starts))
            for name in ("load_decoder", "build_optimizer"):
                patch.setattr(certify, name, logged(getattr(certify, name), name, order))
            run = require_success(scene.pretrain("--init", init))
        optimizer = starts[0].optimizer
        tensors = [value for state in optimizer.state.values() for value in state.values()]
        assert not any(torch.as_tensor(value).any() for value in tensors), (
            "a moment or a step counter is not zero"
        )
        assert order == ["load_decoder", "build_optimizer"], f"the order was {order}"
        (saved,) = run.run_dir.glob("state/step-*")
        state = load_file(saved / "optimizer.safetensors")
        assert not any(value.any() for value in state.values()), "the state on disk is not zero"
        progress = run.read(f"state/{saved.name}/progress.json")
        counters = {name: progress[name] for name in ("step", "epoch", "cursor", "tokens_seen")}
        assert not any(counters.values()), f"the counters are {counters}"
        first_updates_count_from_zero(scene, init)


def first_updates_count_from_zero(scene: Scene, init: Path) -> None:
    """Exactly as many updates as asked, the first at step 1 and at the schedule's first rate."""
    run = require_success(scene.pretrain("--init", init, "--lr", "1e-3", "--warmup-steps", 10, steps=3))
    steps = [line["step"] for line in run.metrics]
    assert steps == [1, 2, 3], f"the updates are numbered {steps}"
    rates = [line["lr"] for line in run.metrics]
    assert rates == pytest.approx([1e-4, 2e-4, 3e-4], rel=1e-9), f"the schedule runs {rates}"
    assert [line["tokens_seen"] for line in run.metrics] == [128, 256, 384], (
        "tokens are not counted from zero"
    )


def kept(function: Callable[..., Any], results: list[Any]) -> Callable[..., Any]:
    def call_and_keep(*arguments: Any, **options: Any) -> Any:
        results.append(function(*arguments, **options))
        return results[-1]

    return call_and_keep


def logged(function: Callable[..., Any], name: str, order: list[str]) -> Callable[..., Any]:
    def call_and_log(*arguments: Any, **options: Any) -> Any:
        order.append(name)
        return function(*arguments, **options)

    return call_and_log


def init_checkpoints_are_reproducible(scene: Scene) -> None:
    """INIT-010: two `--num-steps 0 --seed 42` runs in two folders write the same bytes, with and without --init."""
    for start in (("--init", scene.learned), ("--arch", scene.arch)):
        runs = [require_success(scene.pretrain(*start, "--seed", 42)) for _ in range(2)]
        require_equal_checkpoints(*runs)


def require_equal_checkpoints(first: Run, second: Run) -> None:
    left, right = (run.run_dir / "ckpt" / "epoch-000.apr" for run in (first, second))
    assert left != right, "one run was compared with itself"
    assert left.stat().st_size == right.stat().st_size, "the checkpoints differ in size"
    with left.open("rb") as a, right.open("rb") as b:
        at = 0
        while block := a.read(1 << 24):
            assert block == b.read(1 << 24), f"the checkpoints differ behind byte {at:,}"
            at += len(block)
