"""One run holds a run directory, and leaves nothing where it wrote nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from apr.base.errors import CannotWrite
from apr.train import run_dir as run_dir_module
from apr.train.errors import RunDirInUse, RunDirNotEmpty
from apr.train.run_dir import RunDir


def test_a_second_run_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    with RunDir(tmp_path / "run"):
        with pytest.raises(RunDirInUse) as caught, RunDir(tmp_path / "run"):
            pass
        assert caught.value.holder == str(os.getpid())
        with pytest.raises(RunDirInUse), RunDir(tmp_path / "run"):  # the refusal did not break the hold
            pass
    with RunDir(tmp_path / "run"):
        pass


def test_a_killed_run_leaves_no_hold(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from apr.train.run_dir import RunDir\n"
        "with RunDir(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, tmp_path / "run"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunDirInUse) as caught, RunDir(tmp_path / "run"):
            pass
        assert caught.value.holder == str(holder.pid)
        holder.send_signal(signal.SIGKILL)
    with RunDir(tmp_path / "run") as run_dir:
        run_dir.log("mine")


def test_a_hold_is_on_the_file_that_others_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening the lock and locking it, the run that held it may end and remove its name."""
    original, ended = run_dir_module.fcntl.flock, []

    def flock(handle: int, flags: int) -> None:
        if not ended:
            ended.append((tmp_path / "run" / ".lock").unlink())
        original(handle, flags)

    monkeypatch.setattr(run_dir_module.fcntl, "flock", flock)
    with RunDir(tmp_path / "run"), pytest.raises(RunDirInUse), RunDir(tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()


def test_an_earlier_run_is_left_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "record.json").write_text("{}")
    with pytest.raises(RunDirNotEmpty) as caught, RunDir(folder):
        pass
    assert caught.value.found == "record.json"
    assert [item.name for item in folder.iterdir()] == ["record.json"]


def test_nothing_is_left_where_nothing_was_written(tmp_path: Path) -> None:
    with RunDir(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    with RunDir(tmp_path / "mine"):
        pass
    assert list((tmp_path / "mine").iterdir()) == []


def test_an_error_releases_the_hold_and_keeps_what_was_written(tmp_path: Path) -> None:
    def fail() -> None:
        with RunDir(tmp_path / "run") as run_dir:
            run_dir.write("a.json", {"x": 1})
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [item.name for item in (tmp_path / "run").iterdir()] == ["a.json"]


def test_a_path_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(CannotWrite), RunDir(path):
            pass


def test_lines_are_appended(tmp_path: Path) -> None:
    with RunDir(tmp_path / "run") as run_dir:
        for step in (1, 2):
            run_dir.append_metrics({"step": step})
            run_dir.log(f"line {step}")
        with pytest.raises(ValueError, match="JSON"):
            run_dir.append_metrics({"loss": float("nan")})
        lines = (run_dir.path / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == [{"step": 1}, {"step": 2}]
        assert (run_dir.path / "log.txt").read_text() == "line 1\nline 2\n"


def test_a_line_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with RunDir(tmp_path / "run") as run_dir:
        (run_dir.path / "log.txt").mkdir()
        with pytest.raises(CannotWrite):
            run_dir.log("x")
