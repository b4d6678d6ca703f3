"""Any number of processes make the same run; and what goes wrong between them stops it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from apr.base.errors import PlaceUnclear
from apr.base.processes import Place, process_place
from apr.train.errors import RanksUneven, WindowsMisdealt
from apr.workflows.verifying import verify
from tiny import read_json

DRIVER = Path(__file__).with_name("one_of_several.py")
SIZES = ("--batch-size", "2", "--grad-accum", "2", "--seq-length", "32", "--val-tokens", "256")
ABOUT = (
    "--num-steps",
    "8",
    "--steps-per-epoch",
    "3",
    "--lr",
    "1e-3",
    "--warmup-steps",
    "2",
    "--dtype",
    "fp32",
)
LIMIT = 1e-5  # nats


def processes(num: int, *arguments: str, defect: str = "none", stop: int = 0) -> tuple[int, str]:
    """Run `apr` on so many processes; returns the exit code and all that was said."""
    start = [sys.executable]
    if num > 1:
        start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num}"]
    line = [*start, str(DRIVER), defect, str(stop), *arguments]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def arguments(tiny_apr: Path, tiny_shards: Path) -> tuple[str, ...]:
    return (
        *("pretrain", "--init", str(tiny_apr), "--dataset", str(tiny_shards), "--device", "cpu"),
        *SIZES,
        *ABOUT,
    )


@pytest.fixture(scope="module")
def alone(arguments: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("alone") / "run"
    code, said = processes(1, *arguments, "--run-dir", str(run_dir))
    assert code == 0, said
    return run_dir


def losses(run_dir: Path) -> list[float]:
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    figures = [float(json.loads(line)["train_loss"]) for line in lines]
    return figures + [read_json(path)["val_loss"] for path in sorted(run_dir.glob("ckpt/*.json"))]


def apart(one: Path, other: Path) -> float:
    return max(abs(a - b) for a, b in zip(losses(one), losses(other), strict=True))


def test_one_then_two_then_one_process_give_the_losses_of_one(
    arguments: tuple[str, ...], alone: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    assert processes(1, *arguments, "--run-dir", str(run_dir), stop=2)[0] == 2
    resume = ("pretrain", "--resume", "--run-dir", str(run_dir))
    code, said = processes(2, *resume, stop=5)  # the second process is told to stop, and both do
    assert code == 1, said  # torchrun's own
    assert read_json(run_dir / "record.json")["outcome"] == "INTERRUPTED"
    assert len((run_dir / "metrics.jsonl").read_text().splitlines()) == 5
    assert read_json(run_dir / "resumes" / "001.json")["environment"]["processes"] == 2
    code, said = processes(1, *resume)
    assert code == 0, said
    assert apart(run_dir, alone) < LIMIT
    assert verify(run_dir)["verdict"] == "yes"


def test_two_processes_give_the_losses_of_one_and_one_certificate(
    arguments: tuple[str, ...], alone: Path, tmp_path: Path
) -> None:
    code, said = processes(2, *arguments, "--run-dir", str(tmp_path / "run"))
    assert code == 0, said
    assert apart(tmp_path / "run", alone) < LIMIT
    found, expected = (read_json(run_dir / "certificate.json") for run_dir in (tmp_path / "run", alone))
    assert found["step0"] == expected["step0"]  # each sequence is scored by one process: not a bit differs
    assert said.count("BUDGET_DONE after 8 steps") == 1


@pytest.mark.parametrize(("defect", "gate"), [("not-summed", "update.slope"), ("averaged", "update.slope")])
def test_gradients_that_are_not_summed_refuse_the_run(
    arguments: tuple[str, ...], tmp_path: Path, defect: str, gate: str
) -> None:
    code, said = processes(2, *arguments, "--run-dir", str(tmp_path / "run"), defect=defect)
    assert code == 1
    gates = read_json(tmp_path / "run" / "certificate.json")["gates"]
    assert next(row["id"] for row in gates if row["verdict"] == "no") == gate, said
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_one_changed_weight_in_one_process_stops_both(arguments: tuple[str, ...], tmp_path: Path) -> None:
    code, said = processes(2, *arguments, "--run-dir", str(tmp_path / "run"), defect="other-weights")
    assert code == 1
    assert "APR662: the sum of the weights of process 1" in said
    assert read_json(tmp_path / "run" / "record.json")["error"]["id"] == "APR662"
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_window_that_two_processes_take_stops_both(arguments: tuple[str, ...], tmp_path: Path) -> None:
    code, said = processes(2, *arguments, "--run-dir", str(tmp_path / "run"), defect="same-share")
    assert code == 1
    assert read_json(tmp_path / "run" / "record.json")["error"]["id"] == WindowsMisdealt.id, said
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_process_that_is_killed_ends_the_others(arguments: tuple[str, ...], tmp_path: Path) -> None:
    code, said = processes(2, *arguments, "--run-dir", str(tmp_path / "run"), defect="killed")
    assert code == 1, said
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_windows_that_cannot_be_shared_evenly_are_refused(arguments: tuple[str, ...], tmp_path: Path) -> None:
    code, said = processes(3, *arguments, "--run-dir", str(tmp_path / "run"))
    assert code == 1
    assert f"apr: {RanksUneven.id}: a step of 4 windows cannot be shared evenly by 3 processes" in said
    assert not (tmp_path / "run").exists()


PLACE = {
    "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "host", "MASTER_PORT": "29500",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Place(rank=3, num_ranks=4, local_rank=1, num_local_ranks=2)),
        ({"WORLD_SIZE": "1"}, Place()),
        ({"WORLD_SIZE": None}, Place()),
        ({"RANK": None}, "RANK"),
        ({"RANK": "4"}, "RANK"),
        ({"LOCAL_RANK": "2"}, "LOCAL_RANK"),
        ({"LOCAL_WORLD_SIZE": "two"}, "LOCAL_WORLD_SIZE"),
        ({"MASTER_ADDR": None}, "MASTER_ADDR"),
        ({"MASTER_PORT": ""}, "MASTER_PORT"),
        ({"WORLD_SIZE": "all"}, "WORLD_SIZE"),
    ],
)
def test_the_environment_says_which_process_this_is(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None], expected: Place | str
) -> None:
    for name, value in {**PLACE, **changes}.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    if isinstance(expected, Place):
        assert process_place() == expected
    else:
        with pytest.raises(PlaceUnclear) as caught:
            process_place()
        assert caught.value.name == expected
