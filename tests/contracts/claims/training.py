"""The invariants of the training loop, each as a function that fails where it does not hold."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from apr.aprfile.reader import open_apr
from apr.base.errors import AprError
from apr.base.files import read_json, sha256_file
from apr.data.batches import BatchStream
from apr.evals.loss import EvalLoss
from apr.train import certify, loop, pretrain
from apr.train import run as run_module
from apr.train.errors import LossDiverged, NotFinite, TooFewWindows
from apr.train.ledger import Ledger
from apr.train.plan import resolve
from apr.train.reporter import Silent, StepFigures
from apr.train.run_state import read_state
from apr.train.spec import RunSpec
from contracts.scene import Scene

SHORT: dict[str, Any] = {
    "num_steps": 4, "batch_size": 2, "seq_length": 32, "grad_accum": 2, "steps_per_epoch": 2, "val_tokens": 256,
    "device": "cpu", "dtype": "fp32", "lr": 1e-3, "warmup_steps": 2, "grad_clip": 0.5, "save": "blocking",
}  # fmt: skip


@dataclass(frozen=True)
class Ran:
    path: Path
    record: dict[str, Any]

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.path / "metrics.jsonl").read_text().splitlines()]

    @property
    def bits(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted(self.path.glob("ckpt/*.apr"))]


def spec_of(scene: Scene, **changes: Any) -> RunSpec:
    given = {"init": scene.model, "dataset": scene.shards, "run_dir": scene.new("run"), **SHORT, **changes}
    return RunSpec(**given)


def ran(scene: Scene, reporter: Any = None, **changes: Any) -> Ran:
    """Run; a refusal of the program itself refutes the claim in its own words."""
    spec = spec_of(scene, **changes)
    try:
        return Ran(spec.run_dir, pretrain.pretrain(spec, reporter or Silent()))
    except AprError as error:
        raise AssertionError(f"the run ended with {error}") from error


def steps_log_what_was_measured(scene: Scene) -> None:
    norms: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        original = torch.nn.utils.clip_grad_norm_
        patch.setattr(
            torch.nn.utils, "clip_grad_norm_", lambda *given: norms.append(float(n := original(*given))) or n
        )
        run = ran(scene)
    plan = resolve(spec_of(scene))
    assert len(run.lines) == 4, "not every step has its line"
    for index, line in enumerate(run.lines):
        figures = ("train_loss", "grad_norm", "lr", "tokens_per_sec")
        assert all(0 < line[name] < math.inf for name in figures), f"a figure is not finite: {line}"
        assert line["lr"] == plan.learning_rate(index), f"another lr: {line['lr']}"
        assert line["gpu_util_pct"] is None, "an invented utilisation"
    assert norms[-4:] == [line["grad_norm"] for line in run.lines], "another grad_norm than before clipping"


def epochs_say_what_their_steps_give(scene: Scene) -> None:
    run = ran(scene)
    for number in (1, 2):
        path = run.path / f"ckpt/epoch-{number:03d}.metadata.json"
        assert path.is_file(), "no metadata"
        said, lines = read_json(path), run.lines[2 * number - 2 : 2 * number]
        mean = sum(line["train_loss"] for line in lines) / 2  # of two steps with as many tokens
        assert math.isclose(said["train_loss"], mean, rel_tol=1e-9), (
            f"another train_loss: {said['train_loss']}"
        )
        assert said["grad_norm_max"] == max(line["grad_norm"] for line in lines), "another grad_norm_max"
        names = ("epoch", "val_loss", "train_ppl", "val_ppl", "wall_seconds", "tokens_seen")
        assert all(said[name] > 0 for name in names), f"a field is missing: {said}"


def the_optimizers_digest_is_of_the_file(scene: Scene) -> None:
    run = ran(scene)
    said = read_json(run.path / "ckpt/epoch-002.metadata.json")["optimizer_state_sha"]
    found = sha256_file(run.path / "state/step-00000004/optimizer.safetensors")
    assert said == found, f"the digest {said} is not the file's"


def patience_is_two_epochs_above_the_noise(scene: Scene) -> None:
    plan = resolve(spec_of(scene, num_steps=40))

    def spent(losses: list[tuple[float, tuple[float, ...]]]) -> int | None:
        ledger = Ledger(plan=plan, step0_loss=5.0)
        for epoch, (loss, sums) in enumerate(losses, start=1):
            ledger.steps = epoch * 2
            ledger.judge(loss, 320, sums, 2)
            if ledger.is_out_of_patience:
                return epoch
        return None

    assert spent([(4.0, ()), (4.1, ()), (4.2, ())]) == 3, "another patience than two epochs"
    assert spent([(4.0, ()), (4.1, ()), (3.9, ()), (4.0, ()), (3.8, ())]) is None, "another patience than two"
    assert spent([(4.0, ()), (3.0, ()), (3.1, ()), (2.9, ())]) is None, "another patience than two"
    # A sequence better by 1, another worse by 0.9: a difference of 0.05 with an error of almost 1.
    noisy = [(4.0, (4.0, 4.0)), (3.95, (3.0, 4.9)), (3.9, (4.9, 2.9))]
    assert spent(noisy) == 3, "a difference below its noise counts as a gain"


def losses_have_two_bounds(scene: Scene) -> None:
    def refused(losses: list[float]) -> bool:
        ledger = Ledger(plan=resolve(spec_of(scene)), step0_loss=9.0)
        ledger.steps = 2
        try:
            for loss in losses:
                ledger.judge(loss, 320)
        except LossDiverged:
            return True
        return False

    assert refused([10.1]), "a first loss of 10.1 passes"
    assert refused([4.0, 8.1]), "a doubled loss passes"
    assert refused([4.0, math.nan]), "NaN passes as a loss"
    assert not refused([9.9, 9.8]), "a loss within the bounds is refused"
    original, calls = certify.validation_loss, []

    def perfect(*given: Any) -> EvalLoss:
        calls.append(1)
        found = original(*given)
        return replace(found, loss=1e-3) if len(calls) == 2 else found  # the first is of random weights

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certify, "validation_loss", perfect)
        try:
            ran(scene)
        except AssertionError as refusal:
            if "loss.step0" in str(refusal):
                return
            raise AssertionError(
                f"a loss too good to be true passes step zero, and then {refusal}"
            ) from refusal
    raise AssertionError("a loss too good to be true passes")


def a_seed_decides_every_bit(scene: Scene) -> None:
    first, second, other = ran(scene), ran(scene), ran(scene, seed=7)
    assert first.bits == second.bits, "the same seed gives other bits"
    losses = [[line["train_loss"] for line in run.lines] for run in (first, other)]
    assert losses[0] != losses[1], "another seed gives the same losses"


def nan_ends_the_run_before_the_update(scene: Scene) -> None:
    weights: dict[str, torch.Tensor] = {}
    calls: list[int] = []
    original = loop._accumulate

    def poisoned(decoder: Any, *given: Any) -> float:
        loss = original(decoder, *given)
        calls.append(1)
        if len(calls) == 3:  # the rehearsal is the first
            weights.update({name: value.detach().clone() for name, value in decoder.named_parameters()})
            weights["live"] = next(iter(decoder.parameters()))
            return math.nan
        return loss

    spec = spec_of(scene)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_accumulate", poisoned)
        try:
            pretrain.pretrain(spec, Silent())
        except NotFinite as error:
            if error.step != 2:
                raise AssertionError(f"NaN of step 2 was seen in step {error.step}") from error
        except (AprError, ValueError) as error:
            raise AssertionError(f"NaN was let through: {error}") from error
        else:
            raise AssertionError("NaN was let through")
    live = weights.pop("live")
    assert torch.equal(live, next(iter(weights.values()))), "the update was made"


def throughput_is_of_no_wall_clock(scene: Scene) -> None:
    jumps = iter(range(10**9, 0, -1000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: float(next(jumps)))
        run = ran(scene)
    assert all(0 < line["tokens_per_sec"] < math.inf for line in run.lines), "a speed is not above 0"


def a_mode_flips_its_values_and_an_option_wins(scene: Scene) -> None:
    def values(**given: Any) -> tuple[float, int, float]:
        plan = resolve(RunSpec(run_dir=Path("r"), **given))
        return plan.lr, plan.warmup_steps, plan.target_val_loss

    assert values() == values(mode="finetune") == (5e-5, 100, 2.2), "other values of finetune"
    assert values(mode="from-scratch") == (3e-4, 1000, 3.0), "other values of from-scratch"
    assert values(mode="from-scratch", lr=1e-6) == (1e-6, 1000, 3.0), "an option does not win"


def a_run_is_real_unless_told(scene: Scene) -> None:
    run = ran(scene)
    assert "kind" not in run.record, "the run is synthetic"
    assert run.record["certificate"]["verdict"] == "yes"
    assert len(run.bits) == 2


def an_exhausted_stream_is_no_data(scene: Scene) -> None:
    long = {"num_steps": 40, "batch_size": 8}
    try:
        pretrain.pretrain(spec_of(scene, **long), Silent())
    except TooFewWindows:
        pass
    except AprError as error:
        raise AssertionError(f"it ended with {error}") from error
    else:
        raise AssertionError("the stream went on without a word")
    run = ran(scene, **long, allow_shard_cycle=True)
    losses = [line["train_loss"] for line in run.lines]
    assert len(set(losses)) == 40, "losses repeat: a placeholder"


def what_was_planned_is_consumed(scene: Scene) -> None:
    seen: list[int] = []
    original = BatchStream.next_batch

    def watched(self: BatchStream) -> Any:
        batch = original(self)
        seen.extend(map(int, batch.window_indices))
        return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchStream, "next_batch", watched)
        run = ran(scene)
    plan = resolve(spec_of(scene))
    made = seen[-plan.num_windows :]
    assert len(set(made)) == plan.num_windows == 16, f"{len(set(made))} windows were read, and 16 planned"
    assert len(run.lines) == run.record["steps"] == 4, f"{len(run.lines)} steps were made"
    assert read_state(run.path, 4).cursor == 16, "another cursor than planned"
    assert run.record["tokens"] == 16 * 32, "another count of tokens"


def the_file_is_what_is_in_memory(scene: Scene) -> None:
    live: list[Any] = []
    original = loop.updates

    def kept(decoder: Any, *given: Any, **more: Any) -> Any:
        live.append(decoder)
        return original(decoder, *given, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "updates", kept)
        run = ran(scene)
    with open_apr(run.path / "ckpt/epoch-002.apr") as file:
        for name, value in live[0].named_parameters():
            same = np.array_equal(file.as_f32(name), value.detach().numpy())
            assert same, f"{name} in the file is not what is in memory"


class Killed(BaseException):
    """Stands for SIGKILL."""


def killed_at(number: int) -> Silent:
    class Killer(Silent):
        def step(self, figures: StepFigures) -> None:
            if figures.step == number:
                raise Killed

    return Killer()


def resumed_twice_is_undisturbed(scene: Scene) -> None:
    longer = {"num_steps": 8, "lr": 3e-3}
    spec = spec_of(scene, **longer)
    whole = ran(scene, **longer)
    again = RunSpec(run_dir=spec.run_dir, resume=True)
    for stopped, reporter in ((spec, killed_at(3)), (again, killed_at(7)), (again, Silent())):
        try:
            pretrain.pretrain(stopped, reporter)
        except Killed:
            pass
        except AprError as error:
            raise AssertionError(f"the resume ended with {error}") from error
    run = Ran(spec.run_dir, read_json(spec.run_dir / "record.json"))
    assert run.record["outcome"] == whole.record["outcome"], "another outcome"
    assert run.bits == whole.bits, "other weights"
    timeless = [
        [{k: v for k, v in line.items() if k != "tokens_per_sec"} for line in r.lines] for r in (run, whole)
    ]
    assert timeless[0] == timeless[1], "other metrics"


Claim = Callable[[Scene], None]
