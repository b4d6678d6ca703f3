"""Spikes: what one is, that its update is really left out, and that the record says so."""

from __future__ import annotations

import json
import math
import shutil
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from apr.base.files import write_json
from apr.train import loop
from apr.train.errors import NotFinite, NothingToResume, SpikeFound, SpikesTooMany
from apr.train.plan import resolve
from apr.train.pretrain import pretrain
from apr.train.reporter import Silent
from apr.train.run_state import read_state
from apr.train.spec import RunSpec
from apr.train.spikes import Spike, Trail, spike_limit
from killing import Killer, dies, noes
from tiny import read_json

pytestmark = pytest.mark.usefixtures("one_thread")
# Half a deviation above the median of the last four: ordinary steps are spikes by that.
QUICK: dict[str, Any] = {
    "num_steps": 14, "batch_size": 2, "seq_length": 32, "steps_per_epoch": 5, "val_tokens": 256,
    "device": "cpu", "dtype": "fp32", "lr": 1e-3, "warmup_steps": 2,
    "spike": "skip:50", "spike_threshold": 0.5, "spike_window": 4,
    "save": "blocking",  # so that a kill finds the state of the epoch's end, with a spike in it
}  # fmt: skip


def trail(policy: str = "skip:9", threshold: float = 6.0, window: int = 8, **more: Any) -> Trail:
    return Trail(policy=policy, threshold=threshold, window=window, **more)


def filled(losses: list[float], **more: Any) -> Trail:
    return trail(losses=tuple(losses), norms=(1.0,) * len(losses), **more)


# --- what a spike is ------------------------------------------------------------------------------


def test_the_limit_is_the_median_and_robust_deviations() -> None:
    before = (2.0, 2.1, 1.9, 2.2, 50.0)  # an outlier inside hardly matters
    middle = statistics.median(before)
    mad = statistics.median(abs(x - middle) for x in before)
    assert spike_limit(before, 6.0) == pytest.approx(2.1 + 6 * 1.4826 * 0.1)
    assert spike_limit(before, 6.0) == middle + 6 * 1.4826 * mad
    assert spike_limit((2.0, 2.0, 2.0), 6.0) == pytest.approx(2.0 * 1.006)  # rounding is no spike


@pytest.mark.parametrize(
    ("loss", "norm", "figure"),
    [
        (2.0, 1.0, None),
        (9.0, 1.0, "train_loss"),
        (2.0, 9.0, "grad_norm"),
        (9.0, 9.0, "train_loss"),
        (0.1, 0.1, None),
    ],
)
def test_a_loss_or_a_norm_far_above_is_one_and_far_below_is_none(
    loss: float, norm: float, figure: str | None
) -> None:
    found = filled([2.0, 2.1, 1.9, 2.2]).judge(5, loss, norm)
    assert (found.figure if found else None) == figure


def test_nothing_is_judged_before_half_a_window_or_when_off() -> None:
    assert filled([2.0, 2.1, 1.9]).judge(4, 99.0, 99.0) is None
    assert filled([2.0, 2.1, 1.9, 2.2], policy="off").judge(5, 99.0, 99.0) is None


def test_the_trail_holds_a_window_of_updates_that_were_made() -> None:
    held = trail(window=4)
    for step in range(1, 8):
        held = held.entered(float(step), float(-step), None)
    spike = Spike(step=8, figure="train_loss", value=99.0, limit=9.0)
    held = held.entered(99.0, 99.0, spike)
    assert (held.losses, held.norms) == ((4.0, 5.0, 6.0, 7.0), (-4.0, -5.0, -6.0, -7.0))
    assert held.skipped == (spike,)
    assert trail(window=4).from_books(json.loads(json.dumps(held.to_books()))) == held


def test_abort_ends_at_the_first_and_skip_at_the_one_after_the_last_allowed() -> None:
    calm = [2.0, 2.1, 1.9, 2.2]
    with pytest.raises(SpikeFound) as caught:
        filled(calm, policy="abort").judge(5, 9.0, 1.0)
    assert (caught.value.step, caught.value.figure, caught.value.value) == (5, "train_loss", 9.0)
    held = filled(calm, policy="skip:1")
    spike = held.judge(5, 9.0, 1.0)
    assert spike is not None
    with pytest.raises(SpikesTooMany) as exceeded:
        held.entered(9.0, 1.0, spike).judge(6, 9.0, 1.0)
    assert exceeded.value.allowed == 1


# --- whole runs -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spec(tiny_apr: Path, tiny_shards: Path) -> Callable[..., RunSpec]:
    def make(run_dir: Path, **changes: Any) -> RunSpec:
        return RunSpec(**{"init": tiny_apr, "dataset": tiny_shards, "run_dir": run_dir, **QUICK, **changes})

    return make


@pytest.fixture(scope="module")
def skipping(
    one_thread: None, spec: Callable[..., RunSpec], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("skipping") / "run"
    pretrain(spec(folder), Silent())
    return folder


def lines_of(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def skipped_steps(run_dir: Path) -> list[int]:
    return [line["step"] for line in lines_of(run_dir) if line.get("skipped")]


def without_times(run_dir: Path) -> dict[str, Any]:
    lines = [{k: v for k, v in line.items() if k != "tokens_per_sec"} for line in lines_of(run_dir)]
    record = read_json(run_dir / "record.json")
    return {
        "lines": lines,
        "weights": [path.read_bytes() for path in sorted(run_dir.glob("ckpt/*.apr"))],
        "states": [path.read_bytes() for path in sorted(run_dir.glob("state/*/*.safetensors"))],
        "spikes": record["spikes"],
        "outcome": [record[name] for name in ("outcome", "steps", "tokens", "final_val_loss")],
    }


def test_skipped_updates_are_counted_as_consumed_and_recorded(skipping: Path, spec: Any) -> None:
    lines, record, plan = lines_of(skipping), read_json(skipping / "record.json"), resolve(spec(skipping))
    steps = skipped_steps(skipping)
    assert 2 <= len(steps) <= 9  # the scene is one: some are left out, and some are not
    assert (record["outcome"], record["steps"], len(lines)) == ("BUDGET_DONE", 14, 14)
    assert [line["lr"] for line in lines] == [plan.learning_rate(step) for step in range(14)]
    assert record["tokens"] == lines[-1]["tokens_seen"] == 14 * 2 * 32  # INV-TRAIN-012
    state = read_state(skipping, 14)
    assert state.cursor == plan.num_windows
    assert [spike["step"] for spike in record["spikes"]] == steps
    for spike in record["spikes"]:
        line = lines[spike["step"] - 1]
        assert (line["spike"], line["spike_limit"]) == (spike["figure"], spike["limit"])
        assert spike["value"] == line[spike["figure"]] > spike["limit"]
    assert noes(skipping) == []


def test_the_optimizer_counts_the_updates_that_were_made(skipping: Path) -> None:
    with safe_open(skipping / "state/step-00000014/optimizer.safetensors", "pt") as file:
        counts = {float(file.get_tensor(key)) for key in file.keys() if key.endswith(".step")}  # noqa: SIM118
    assert counts == {14.0 - len(skipped_steps(skipping))}


class Watching(Silent):
    """Keeps copies of the weights behind every step, as the loop has them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.before: list[dict[str, torch.Tensor]] = []
        self.after: list[dict[str, torch.Tensor]] = []
        original = loop.make_update

        def make(decoder: Any, optimizer: Any, *args: Any) -> Any:
            self.before.append(self._all(decoder, optimizer))
            update = original(decoder, optimizer, *args)
            self.after.append(self._all(decoder, optimizer))
            return update

        patch.setattr(loop, "make_update", make)

    @staticmethod
    def _all(decoder: Any, optimizer: Any) -> dict[str, torch.Tensor]:
        kept = {name: value.detach().clone() for name, value in decoder.named_parameters()}
        for number, state in enumerate(optimizer.state.values()):
            kept |= {f"{number}.{key}": value.clone() for key, value in state.items()}
        return kept


def test_a_skipped_update_leaves_weights_and_moments_as_they_were(
    spec: Callable[..., RunSpec], skipping: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching = Watching(monkeypatch)
    pretrain(spec(tmp_path / "run"), watching)
    for step, (before, after) in enumerate(zip(watching.before, watching.after, strict=True), start=1):
        same = before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
        assert same is (step in skipped_steps(skipping)), step


@pytest.mark.parametrize("step", [2, 6, 8, 9, 12, 13, 14])
def test_killed_after_any_step_the_same_updates_are_left_out(
    step: int, spec: Callable[..., RunSpec], skipping: Path, tmp_path: Path
) -> None:
    with dies():
        pretrain(spec(tmp_path / "run"), Killer(step))
    pretrain(RunSpec(run_dir=tmp_path / "run", resume=True), Silent())
    assert without_times(tmp_path / "run") == without_times(skipping)
    assert noes(tmp_path / "run") == []


@pytest.mark.parametrize("policy", ["abort", "skip:1"])
def test_a_spike_too_many_ends_the_run_before_its_update(
    policy: str, spec: Callable[..., RunSpec], skipping: Path, tmp_path: Path
) -> None:
    run_dir, number = tmp_path / "run", {"abort": 0, "skip:1": 1}[policy]
    with pytest.raises(SpikeFound) as caught:
        pretrain(spec(run_dir, spike=policy, steps_per_epoch=1), Silent())
    assert caught.value.id == {"abort": "APR615", "skip:1": "APR616"}[policy]
    assert caught.value.step == skipped_steps(skipping)[number]
    record, steps = read_json(run_dir / "record.json"), caught.value.step - 1
    assert (record["outcome"], record["steps"], record["error"]["id"]) == ("SPIKE", steps, caught.value.id)
    assert [spike["skipped"] for spike in record["spikes"]] == [True] * number + [False]
    assert record["checkpoints"][-1] == f"ckpt/epoch-{steps:03d}.apr"  # the last good one is there, and holds
    assert noes(run_dir) == []
    before = sorted(path for path in run_dir.rglob("*"))
    with pytest.raises(NothingToResume):
        pretrain(RunSpec(run_dir=run_dir, resume=True), Silent())
    assert sorted(path for path in run_dir.rglob("*")) == before


def test_off_is_the_default_and_leaves_no_trace(spec: Callable[..., RunSpec], tmp_path: Path) -> None:
    record = pretrain(spec(tmp_path / "run", spike=None), Silent())
    assert (record["spikes"], skipped_steps(tmp_path / "run")) == ([], [])
    assert read_state(tmp_path / "run", 14).books["trail"] == {"losses": [], "norms": [], "skipped": []}
    assert noes(tmp_path / "run") == []


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_what_is_not_finite_ends_a_run_whatever_may_be_skipped(
    poison: float, spec: Callable[..., RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = loop._accumulate, []

    def poisoned(*args: Any) -> float:
        calls.append(1)
        loss = original(*args)
        return poison if len(calls) > 9 else loss

    monkeypatch.setattr(loop, "_accumulate", poisoned)
    with pytest.raises(NotFinite):
        pretrain(spec(tmp_path / "run"), Silent())
    assert read_json(tmp_path / "run/record.json")["outcome"] == "DIVERGED"


def test_the_run_says_what_it_left_out(skipping: Path) -> None:
    said = (skipping / "log.txt").read_text()
    assert all(f"of step {step} is" in said for step in skipped_steps(skipping))


# --- the record against metrics -------------------------------------------------------------------


def edit_line(run_dir: Path, step: int, change: Callable[[dict[str, Any]], None]) -> None:
    lines = lines_of(run_dir)
    change(lines[step - 1])
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def hidden(run_dir: Path) -> None:
    def change(line: dict[str, Any]) -> None:
        for name in ("skipped", "spike", "spike_limit"):
            del line[name]

    edit_line(run_dir, skipped_steps(run_dir)[0], change)


def invented(run_dir: Path) -> None:
    step = next(line["step"] for line in lines_of(run_dir) if line["step"] > 2 and "skipped" not in line)
    edit_line(run_dir, step, lambda line: line.update(skipped=True, spike="train_loss", spike_limit=0.1))


def other_limit(run_dir: Path) -> None:
    edit_line(run_dir, skipped_steps(run_dir)[0], lambda line: line.update(spike_limit=0.5))


def unlisted(run_dir: Path) -> None:
    record = read_json(run_dir / "record.json")
    write_json(run_dir / "record.json", {**record, "spikes": record["spikes"][1:]})


@pytest.mark.parametrize(
    ("edit", "check"),
    [
        (hidden, "metrics.spikes"),
        (invented, "metrics.spikes"),
        (other_limit, "metrics.spikes"),
        (unlisted, "record.spikes"),
    ],
)
def test_an_edit_is_found(edit: Callable[[Path], None], check: str, skipping: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(skipping, tmp_path / "run"))
    edit(copied)
    assert check in noes(copied)


def test_more_than_the_plan_allows_is_found(
    spec: Callable[..., RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trail, "judge", Trail.find)  # the count is not looked at
    pretrain(spec(tmp_path / "run", spike="skip:1"), Silent())
    assert noes(tmp_path / "run") == ["record.spike_policy"]


def test_an_update_that_was_made_all_the_same_is_found(
    spec: Callable[..., RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop says that it left an update out, and made it."""
    original = loop.make_update

    def make(
        decoder: Any, optimizer: Any, batches: Any, step: int, plan: Any, compute: Any, judge: Any = None
    ) -> Any:
        update = original(decoder, optimizer, batches, step, plan, compute)
        return replace(update, spike=judge(step, update.train_loss, update.grad_norm) if judge else None)

    monkeypatch.setattr(loop, "make_update", make)
    pretrain(spec(tmp_path / "run"), Silent())
    assert skipped_steps(tmp_path / "run")
    assert {name.rpartition(".")[2] for name in noes(tmp_path / "run")} == {"progress"}
