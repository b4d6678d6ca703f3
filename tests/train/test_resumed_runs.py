"""Resume: from any stop the run goes on to the same bytes, and from nothing that is another run."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from apr.base.errors import Interrupted
from apr.train import pretrain as pretrain_module
from apr.train.pretrain import pretrain
from apr.train.reporter import Silent, StepFigures
from apr.train.spec import RunSpec
from apr.workflows.verifying import verify
from tiny import read_json

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK: dict[str, Any] = {
    "num_steps": 7, "batch_size": 2, "seq_length": 32, "grad_accum": 2, "steps_per_epoch": 3,
    "val_tokens": 256, "device": "cpu", "dtype": "fp32", "lr": 1e-3, "warmup_steps": 2,
}  # fmt: skip


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours is written after it."""


class Killer(Silent):
    """Kills the run when it reports a step."""

    def __init__(self, step: int, error: BaseException) -> None:
        self._step, self._error = step, error

    def step(self, figures: StepFigures) -> None:
        if figures.step == self._step:
            raise self._error


@pytest.fixture(scope="module")
def spec(tiny_apr: Path, tiny_shards: Path) -> Callable[..., RunSpec]:
    def make(run_dir: Path, **changes: Any) -> RunSpec:
        return RunSpec(**{"init": tiny_apr, "dataset": tiny_shards, "run_dir": run_dir, **QUICK, **changes})

    return make


@pytest.fixture(scope="module")
def undisturbed(
    one_thread: None, spec: Callable[..., RunSpec], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    pretrain(spec(folder), Silent())
    return folder


def resume(run_dir: Path, reporter: Any = None, **given: Any) -> dict[str, Any]:
    return pretrain(RunSpec(run_dir=run_dir, resume=True, **given), reporter or Silent())


def results(run_dir: Path) -> dict[str, Any]:
    """All that a run leaves, but for times."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    record = read_json(run_dir / "record.json")
    states = {path.parent.name: path.read_bytes() for path in run_dir.glob("state/*/optimizer.safetensors")}
    metadata = {path.name: read_json(path) for path in run_dir.glob("ckpt/*.json")}
    return {
        "checkpoints": {path.name: path.read_bytes() for path in run_dir.glob("ckpt/*.apr")},
        "states": states,
        "metrics": [{k: v for k, v in line.items() if k != "tokens_per_sec"} for line in lines],
        "metadata": {
            name: {k: v for k, v in said.items() if k != "wall_seconds"} for name, said in metadata.items()
        },
        "best": read_json(run_dir / "best.json"),
        "record": {k: record[k] for k in ("outcome", "steps", "tokens", "final_val_loss", "checkpoints")},
    }


def noes(run_dir: Path) -> list[str]:
    return [check["id"] for check in verify(run_dir)["checks"] if check["verdict"] == "no"]


# --- the same bytes ------------------------------------------------------------------------------


@pytest.mark.parametrize("step", range(1, 8))
def test_killed_after_any_step_the_run_ends_in_the_same_bytes(
    step: int, spec: Callable[..., RunSpec], undisturbed: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    with pytest.raises(Killed):
        pretrain(spec(run_dir), Killer(step, Killed()))
    resume(run_dir)
    assert results(run_dir) == results(undisturbed)
    assert noes(run_dir) == []


@pytest.mark.parametrize("step", [1, 2, 3, 4, 6, 7])
def test_interrupted_after_any_step_no_step_is_made_twice(
    step: int,
    spec: Callable[..., RunSpec],
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_dir = tmp_path / "run"
    seen: list[int] = []
    interrupt_at(monkeypatch, step)
    with pytest.raises(Interrupted):
        pretrain(spec(run_dir), Silent())
    monkeypatch.undo()
    assert read_json(run_dir / "record.json")["outcome"] == "INTERRUPTED"
    assert noes(run_dir) == []

    class Counting(Silent):
        def step(self, figures: StepFigures) -> None:
            seen.append(figures.step)

    resume(run_dir, Counting())
    assert seen == list(range(step + 1, 8))
    assert results(run_dir) == results(undisturbed)
    assert noes(run_dir) == []


def interrupt_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """Answer the loop's question as after a SIGTERM, from a step on."""
    original = pretrain_module._log_update
    state = {"asked": False}

    def log(run_dir: Any, reporter: Any, figures: StepFigures) -> None:
        original(run_dir, reporter, figures)
        state["asked"] = state["asked"] or figures.step >= step

    class Asked:
        def __enter__(self) -> Callable[[], bool]:
            return lambda: state["asked"]

        def __exit__(self, *error: Any) -> None: ...

    patch.setattr(pretrain_module, "_log_update", log)
    patch.setattr(pretrain_module, "_interruptions", Asked)


def test_killed_in_every_write_of_a_save(
    spec: Callable[..., RunSpec], undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Die at the n-th write of the whole run, for every n, and once more while going on."""
    for number in range(1, 40):
        run_dir = tmp_path / f"run{number}"
        with dying_at(monkeypatch, number), suppress(Killed):
            pretrain(spec(run_dir, save="blocking"), Silent())
        if (run_dir / "record.json").is_file():
            break  # it came to its end
        if not (run_dir / "plan.json").is_file():
            continue
        with dying_at(monkeypatch, 3), suppress(Killed):
            resume(run_dir)
        if not (run_dir / "record.json").is_file():
            resume(run_dir)
        assert results(run_dir)["checkpoints"] == results(undisturbed)["checkpoints"] or _blocking(run_dir)
        assert results(run_dir)["metrics"] == results(undisturbed)["metrics"]
        assert noes(run_dir) == [], number
    assert number > 12


def _blocking(run_dir: Path) -> bool:
    """Another plan has another digest in the lineage; the weights are compared by the metrics then."""
    return bool(read_json(run_dir / "plan.json")["values"]["save"]["value"] == "blocking")


class dying_at:
    """Raise Killed at the n-th rename of a finished file or folder."""

    def __init__(self, patch: pytest.MonkeyPatch, number: int) -> None:
        self._patch, self._left = patch, number

    def __enter__(self) -> None:
        import os

        originals = {"replace": os.replace, "rename": os.rename}

        def counting(name: str) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                self._left -= 1
                if self._left == 0:
                    raise Killed
                return originals[name](*args, **kwargs)

            return call

        for name in originals:
            self._patch.setattr(os, name, counting(name))

    def __exit__(self, *error: Any) -> None:
        self._patch.undo()
