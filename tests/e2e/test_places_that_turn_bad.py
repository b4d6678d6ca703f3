"""A run whose surroundings turn bad in the middle: a clear error, the last checkpoint whole, and a way on.

What else of this kind is tested, and where: a damaged state or checkpoint, a shard that changes in use, clocks that
jump in tests/train/test_resumed_runs.py; a disk too small from the start in test_bad_places.py.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from apr.aprfile.reader import open_apr
from apr.base.errors import CannotWrite
from apr.train.pretrain import pretrain
from apr.train.reporter import Silent, StepFigures
from apr.train.spec import RunSpec
from e2e.refusal import call, check_outcome, train
from tiny import read_json

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS: dict[str, Any] = {
    "num_steps": 7, "batch_size": 2, "seq_length": 32, "steps_per_epoch": 2, "val_tokens": 256,
    "device": "cpu", "dtype": "fp32", "lr": 1e-3, "warmup_steps": 2,
}  # fmt: skip


def command(*words: object) -> bool:
    try:
        return subprocess.run([*map(str, words)], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, bool]]:
    """A small file system of its own where one may be mounted; says whether it is."""
    folder = tmp_path / "disk"
    folder.mkdir()
    is_mounted = command("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder)
    yield folder, is_mounted
    if is_mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def metrics(
    one_thread: None, tiny_apr: Path, tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """Of a run that nothing happens to."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    pretrain(RunSpec(init=tiny_apr, dataset=tiny_shards, run_dir=folder, **STEPS), Silent())
    return timeless(folder)


def timeless(run_dir: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "tokens_per_sec"} for line in lines]


class After(Silent):
    """Does something bad when the third step is told, once the save of the second is whole."""

    def __init__(self, run_dir: Path, turn: Callable[[], object]) -> None:
        self._run_dir, self._turn = run_dir, turn

    def step(self, figures: StepFigures) -> None:
        if figures.step == 3:
            end = time.monotonic() + 30
            while not (self._run_dir / "state/step-00000002").is_dir():
                assert time.monotonic() < end
                time.sleep(0.01)
            self._turn()


def turned(
    run_dir: Path, model: Path, shards: Path, turn: Callable[[], object], back: Callable[[], object]
) -> CannotWrite:
    """Run into it, look at what is left, put it right and go on; returns the error."""
    spec = RunSpec(init=model, dataset=shards, run_dir=run_dir, **STEPS)
    try:
        with pytest.raises(CannotWrite) as caught:
            pretrain(spec, After(run_dir, turn))
        open_apr(run_dir / "ckpt/epoch-001.apr", "full").close()
        assert not list(run_dir.glob("ckpt/*-002.apr"))
    finally:
        back()
    assert call("pretrain", "--resume", "--run-dir", run_dir).code == 0
    assert call("verify", run_dir).code == 0
    return caught.value


def test_a_disk_that_fills_up_after_a_checkpoint(
    disk: tuple[Path, bool], tiny_apr: Path, tiny_shards: Path, metrics: list[dict[str, Any]]
) -> None:
    folder, is_mounted = disk
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill() -> None:
        if not is_mounted:  # no file grows beyond this
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
            return
        with (folder / "ballast").open("wb", buffering=0) as stream, suppress(OSError):
            while True:
                stream.write(b"\0" * 4096)

    def empty() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        (folder / "ballast").unlink(missing_ok=True)

    error = turned(folder / "run", tiny_apr, tiny_shards, fill, empty)
    assert error.id == "APR103"
    assert timeless(folder / "run") == metrics


def refused_writes(folder: Path) -> threading.Event:
    """While the event is set, this process is refused every write below a folder, as a read-only disk refuses it.

    For where nothing may be mounted; permissions would not bind root.
    """
    closed = threading.Event()

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if not closed.is_set() or not arguments or not str(arguments[0]).startswith(str(folder)):
            return
        for_writing = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if for_writing or event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(arguments[0]))

    sys.addaudithook(refuse)  # stays, and does nothing more, when the event is cleared
    return closed


def test_a_disk_that_becomes_read_only(
    disk: tuple[Path, bool], tiny_apr: Path, tiny_shards: Path, metrics: list[dict[str, Any]]
) -> None:
    """As a file system does that has met an error."""
    folder, is_mounted = disk
    run_dir = folder / "run"
    closed = refused_writes(run_dir) if not is_mounted else None

    def locked() -> None:
        if closed is not None:
            closed.set()
            return
        # A second view of the folder: the first cannot be locked while the run holds a file in it.
        assert command("mount", "--bind", run_dir, run_dir)
        assert command("mount", "-o", "remount,bind,ro", run_dir)

    def open_again() -> None:
        if closed is not None:
            closed.clear()
        else:
            assert command("umount", run_dir)

    error = turned(run_dir, tiny_apr, tiny_shards, locked, open_again)
    assert error.id == "APR103"
    assert timeless(folder / "run") == metrics


def test_a_resume_of_a_run_that_is_running(tmp_path: Path, tiny_apr: Path, tiny_shards: Path) -> None:
    """Two real processes on one folder: the second is refused, and the first goes on as if it had not been there."""
    run_dir = tmp_path / "run"
    options = ("--num-steps", 400, "--steps-per-epoch", 100, "--allow-shard-cycle")
    arguments = [str(word) for word in train(tiny_apr, tiny_shards, run_dir, *options)]
    with subprocess.Popen([sys.executable, "-m", "apr", *arguments], stdout=-3, stderr=-3) as first:
        end = time.monotonic() + 90
        while not (run_dir / "metrics.jsonl").is_file():
            assert time.monotonic() < end
            assert first.poll() is None
            time.sleep(0.02)
        second = call("pretrain", "--resume", "--run-dir", run_dir, "--format", "json")
        document = check_outcome(second, "APR603")
        assert document["facts"]["holder"] == str(first.pid)
        assert first.wait(120) == 0
    assert read_json(run_dir / "record.json")["steps"] == 400
    assert call("verify", run_dir).code == 0
