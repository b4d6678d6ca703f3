"""Ctrl-C at any moment: what was finished is kept, what was not leaves no trace, and the record says so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from apr.aprfile.metadata import read_facts
from apr.aprfile.reader import open_apr
from apr.train.run_state import read_state, state_name
from command import Outcome, run_apr
from e2e.refusal import check_outcome, snapshot
from tiny import make_shards, read_json

# A run that would take hours, told step by step.
LONG = (
    "--num-steps",
    1_000_000,
    "--batch-size",
    2,
    "--seq-length",
    32,
    "--allow-shard-cycle",
    "--dtype",
    "fp32",
)


@pytest.fixture(scope="module")
def many_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough to validate on that step zero takes seconds."""
    return make_shards(tmp_path_factory.mktemp("many") / "shards", documents=1500)


class Started:
    """The real command line, running, whose talk can be waited for."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.talk: list[str] = []

    def wait_for(self, text: str) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.talk.append(line)
            if text in line:
                return
        raise AssertionError(f"it ended without saying {text!r}: {''.join(self.talk)}")

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        self.process.send_signal(number)

    def outcome(self, seconds: float) -> Outcome:
        stdout, rest = self.process.communicate(timeout=seconds)
        return Outcome(self.process.returncode, stdout, "".join(self.talk) + rest)


@contextmanager
def started(*arguments: object) -> Iterator[Started]:
    command = [sys.executable, "-m", "apr", *map(str, arguments), "--format", "json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:  # type: ignore[call-overload]
        try:
            yield Started(process)
        finally:
            process.kill()


def training(model: Path, shards: Path, run_dir: Path, *more: object) -> tuple[object, ...]:
    options = ("--init", model, "--dataset", shards, "--run-dir", run_dir, "--device", "cpu")
    return ("pretrain", *options, *LONG, *more)


def nothing_left_over(folder: Path) -> list[str]:
    left = list(snapshot(folder))
    assert not [name for name in left if name.endswith((".tmp", ".lock"))]
    return left


def record_of(run_dir: Path) -> dict[str, Any]:
    record = read_json(run_dir / "record.json")
    assert (record["outcome"], record["error"]) == ("INTERRUPTED", None)
    return record


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_middle_of_training(
    tmp_path: Path, tiny_apr: Path, tiny_shards: Path, number: signal.Signals
) -> None:
    """The step in progress is finished and kept, with its state, and the checkpoint says which step it is."""
    run_dir = tmp_path / "run"
    with started(*training(tiny_apr, tiny_shards, run_dir, "--val-tokens", 256)) as run:
        run.wait_for("step 5/")
        run.interrupt(number)
        document = check_outcome(run.outcome(90), "APR004")
    record = record_of(run_dir)
    assert record["steps"] >= 5
    assert record["checkpoints"] == []
    assert state_name(record["steps"]) in document["help"]
    state = read_state(run_dir, record["steps"])
    with open_apr(run_dir / state.weights, "full") as file:
        lineage = read_facts(file).lineage
    assert lineage is not None
    assert lineage["step"] == record["steps"] == state.step
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, record["steps"] + 1))
    nothing_left_over(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_step_zero(tmp_path: Path, tiny_apr: Path, many_shards: Path, number: signal.Signals) -> None:
    with started(*training(tiny_apr, many_shards, tmp_path / "run", "--val-tokens", 10**9)) as run:
        run.wait_for("validation loss ...")
        run.interrupt(number)
        check_outcome(run.outcome(60), "APR004")
    record = record_of(tmp_path / "run")
    assert (record["steps"], record["checkpoints"]) == (0, [])
    names = {"run", "run/inputs.json", "run/log.txt", "run/plan.json", "run/record.json"}
    assert set(nothing_left_over(tmp_path)) == names


def test_a_second_one_stops_at_once(tmp_path: Path, tiny_apr: Path, tiny_shards: Path) -> None:
    """A step of minutes: the first Ctrl-C waits for its end, the second does not."""
    slow = ("--val-tokens", 256, "--grad-accum", 100_000)
    with started(*training(tiny_apr, tiny_shards, tmp_path / "run", *slow)) as run:
        run.wait_for("certificate yes")
        time.sleep(0.5)  # the first step has begun; its end is minutes away
        run.interrupt()
        with pytest.raises(subprocess.TimeoutExpired):
            run.process.wait(1)
        run.interrupt()
        check_outcome(run.outcome(60), "APR004")
    record = record_of(tmp_path / "run")
    assert (record["steps"], record["checkpoints"]) == (0, [])
    assert not [name for name in nothing_left_over(tmp_path) if name.endswith(".apr")]


def test_while_encoding(tmp_path: Path, tiny_apr: Path) -> None:
    """What was synced is kept, no reader takes it, and the same command goes on to the end."""
    corpus, out = tmp_path / "corpus.jsonl", tmp_path / "out"
    line = '{"content": "the river %d holds the stone of the garden"}\n'
    corpus.write_text("".join(line % number for number in range(150_000)))
    arguments = ("tokenize", "encode-corpus", "--corpus", corpus, "--tokenizer", tiny_apr, "-o", out)
    with started(*arguments) as run:
        run.wait_for("encoding ...")
        assert (out / "shard-00000.bin").exists()
        run.interrupt()
        check_outcome(run.outcome(60), "APR004")
    if out.exists():  # the first journal is written after ten seconds; before it nothing is kept
        assert run_apr("eval", tiny_apr, "--dataset", out, "--format", "json").error_id == "APR436"
    assert run_apr(*arguments).code == 0
    assert not list(out.glob(".*"))


def test_while_the_inputs_are_read(tmp_path: Path, tiny_apr: Path) -> None:
    """A text that never arrives: the inputs are still being read."""
    fifo = tmp_path / "corpus.txt"
    os.mkfifo(fifo)
    with started("eval", tiny_apr, "--text", fifo) as run:
        run.wait_for("checking the digests ...")
        time.sleep(0.5)
        run.interrupt()
        check_outcome(run.outcome(60), "APR004")
    assert list(tmp_path.iterdir()) == [fifo]
