"""Where nothing can be written: full disks, other runs' folders, files in the place of folders."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from apr.aprfile.reader import open_apr
from apr.cli import eval_command
from command import Outcome
from e2e.refusal import RECORDED, call, check_outcome, refused, snapshot, train
from tiny import make_corpus, read_json

HOLD = """
import sys
from pathlib import Path
from apr.train.run_dir import RunDir
with RunDir(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(run_dir: Path) -> Iterator[int]:
    """A live process that has the run directory; yields its id."""
    command = [sys.executable, "-c", HOLD, str(run_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "held\n"
            yield process.pid
        finally:
            process.stdin.close()


def test_a_run_directory_that_another_process_holds(
    tmp_path: Path, tiny_apr: Path, tiny_shards: Path
) -> None:
    arguments = train(tiny_apr, tiny_shards, tmp_path / "run")
    with held(tmp_path / "run") as holder:
        refused(*arguments, error_id="APR603", says={"holder": holder}, folder=tmp_path)
    assert not (tmp_path / "run").exists()  # it went without having written anything
    assert call(*arguments).code == 0


@pytest.mark.parametrize("content", ["notes.txt", ".hidden", "ckpt"])
def test_a_run_directory_that_is_not_empty(
    tmp_path: Path, tiny_apr: Path, tiny_shards: Path, content: str
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / content).mkdir()
    arguments = train(tiny_apr, tiny_shards, tmp_path / "run")
    refused(*arguments, error_id="APR604", says={"found": content}, folder=tmp_path)


def below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("a file")
    return folder / "file" / "out"


def in_the_kernels(folder: Path) -> Path:
    return Path("/proc/self/out")  # read-only for root too


def below_a_loop(folder: Path) -> Path:
    (folder / "loop").symlink_to(folder / "loop")
    return folder / "loop" / "out"


def of_a_long_name(folder: Path) -> Path:
    return folder / ("x" * 300)


def forbidden(folder: Path) -> Path:
    (folder / "locked").mkdir()
    (folder / "locked").chmod(0o555)
    return folder / "locked" / "out"


# Permission bits do not bind root; the other places bind everybody.
UNWRITABLE = [below_a_file, in_the_kernels, below_a_loop, of_a_long_name]
UNWRITABLE += [forbidden] if os.geteuid() else []


def writers(folder: Path, model: Path, shards: Path, out: Path) -> dict[str, tuple[object, ...]]:
    """Every command that writes, given something good to write."""
    if not (folder / "text").exists():
        make_corpus(folder / "text", documents=40)
    encode = ("tokenize", "encode-corpus", "--corpus", folder / "text", "--tokenizer", model)
    return {
        "pretrain": train(model, shards, out),
        "synthetic": train(model, shards, out, "--synthetic"),
        "encode": (*encode, "--val-fraction", 0.2, "-o", out),
        "tokenizer": ("tokenize", "import-hf", model, "-o", out),
    }


@pytest.mark.parametrize("command", ["pretrain", "synthetic", "encode", "tokenizer"])
@pytest.mark.parametrize("place", UNWRITABLE)
def test_a_place_where_nothing_can_be_written(
    tmp_path: Path, tiny_apr: Path, tiny_shards: Path, place: Callable[[Path], Path], command: str
) -> None:
    out = place(tmp_path)
    arguments = writers(tmp_path, tiny_apr, tiny_shards, out)[command]
    error_id = "APR106" if place is of_a_long_name and command in ("encode", "tokenizer") else "APR103"
    refused(*arguments, error_id=error_id, says={"path": out}, folder=tmp_path)


@pytest.mark.parametrize("command", ["pretrain", "synthetic", "encode", "tokenizer"])
def test_a_file_in_the_place_of_the_output_folder(
    tmp_path: Path, tiny_apr: Path, tiny_shards: Path, command: str
) -> None:
    (tmp_path / "out").write_text("a file")
    arguments = writers(tmp_path, tiny_apr, tiny_shards, tmp_path / "out")[command]
    refused(*arguments, error_id="APR103", says={"path": tmp_path / "out"}, folder=tmp_path)


@pytest.mark.parametrize("option", ["--dataset", "--val-shard"])
def test_a_file_in_the_place_of_a_dataset(
    tmp_path: Path, tiny_apr: Path, tiny_shards: Path, option: str
) -> None:
    (tmp_path / "file").write_text("a file")
    arguments = train(tiny_apr, tiny_shards, tmp_path / "run", option, tmp_path / "file")
    refused(*arguments, error_id="APR435", says={"folder": tmp_path / "file"}, folder=tmp_path)


@contextmanager
def file_size_limit(num_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond a size: what a full disk does, wherever the tests run."""
    limit, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))


def under_limit(num_bytes: int) -> Callable[..., Outcome]:
    def run(*arguments: object) -> Outcome:
        with file_size_limit(num_bytes):
            return call(*arguments)

    return run


# Enough for the first files and not for the ones that matter; 0 stops at the first byte.
@pytest.mark.parametrize("num_bytes", [0, 3_500])
@pytest.mark.parametrize("command", ["pretrain", "encode", "tokenizer"])
def test_a_disk_that_is_full_from_the_start(
    tmp_path: Path, tiny_apr: Path, tiny_shards: Path, command: str, num_bytes: int
) -> None:
    arguments = writers(tmp_path, tiny_apr, tiny_shards, tmp_path / "out")[command]
    leaves = (
        ("out", "out/inputs.json", "out/log.txt", "out/plan.json")
        if (command, num_bytes) == ("pretrain", 3_500)
        else ()
    )
    says = {
        "path": "certificate.json" if leaves else tmp_path / "out"
    }  # the first that failed, not the record
    refused(
        *arguments, error_id="APR103", says=says, folder=tmp_path, leaves=leaves, run=under_limit(num_bytes)
    )


def test_a_disk_that_fills_up_while_training(tmp_path: Path, tiny_apr: Path, tiny_shards: Path) -> None:
    """The checkpoint does not fit; the record does, and says so."""
    arguments = (*train(tiny_apr, tiny_shards, tmp_path / "run"), "--format", "json")
    with file_size_limit(200_000):
        document = check_outcome(call(*arguments), "APR103")
    assert "epoch-001.apr" in document["facts"]["path"]
    left = snapshot(tmp_path)
    files = ("run/certificate.json", "run/ckpt", "run/metrics.jsonl", *RECORDED)
    assert sorted(left) == sorted(files)
    record = read_json(tmp_path / "run/record.json")
    assert (record["outcome"], record["checkpoints"]) == ("REFUSED", [])
    assert record["steps"] in (2, 3, 4)  # the save runs beside the steps, and its failure ends them
    assert record["error"]["id"] == "APR103"


def test_the_optimizers_state_does_not_fit(tmp_path: Path, tiny_apr: Path, tiny_shards: Path) -> None:
    """The state is twice the weights; the checkpoint beside it is whole, and nothing else is left of the attempt."""
    arguments = (*train(tiny_apr, tiny_shards, tmp_path / "run"), "--format", "json")
    with file_size_limit(700_000):
        document = check_outcome(call(*arguments), "APR103")
    assert "optimizer" in document["facts"]["path"]
    assert not list((tmp_path / "run" / "state").iterdir())
    open_apr(tmp_path / "run/ckpt/epoch-001.apr", "full").close()
    assert call("pretrain", "--resume", "--run-dir", tmp_path / "run").code == 0  # there is room again
    assert call("verify", tmp_path / "run").code == 0


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[bool]:
    """A real small file system where one may be mounted; elsewhere a limit on file sizes. Yields which."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        is_mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        is_mounted = False
    try:
        if is_mounted:
            yield True
        else:
            with file_size_limit(100_000):
                yield False
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("command", ["pretrain", "encode", "tokenizer"])
@pytest.mark.parametrize("size", ["4k", "64k", "1m"])
def test_a_small_file_system(
    tmp_path: Path,
    tiny_apr: Path,
    tiny_shards: Path,
    command: str,
    size: str,
    record_property: Callable[[str, object], None],
) -> None:
    make_corpus(tmp_path / "text", documents=400)
    with small_disk(tmp_path / "disk", size) as is_mounted:
        record_property("mounted", is_mounted)
        out = tmp_path / "disk" / "out"
        arguments = writers(tmp_path, tiny_apr, tiny_shards, out)[command]
        outcome = call(*arguments, "--format", "json")
        if outcome.code == 0:
            assert (command, size) in {("tokenizer", "64k"), ("tokenizer", "1m"), ("encode", "1m")}
            return
        check_outcome(outcome, "APR103")
        left = snapshot(tmp_path / "disk")
        assert not [name for name in left if name.endswith((".tmp", ".lock"))]
        assert command == "pretrain" or not left
        for name in left:
            if name.endswith(".apr"):
                open_apr(tmp_path / "disk" / name, "full").close()


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")]
)
def test_no_memory(
    tmp_path: Path, tiny_apr: Path, tiny_shards: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python and torch say it in different ways."""

    def refuse(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(eval_command, "evaluate_model", refuse)
    refused("eval", tiny_apr, "--dataset", tiny_shards, error_id="APR107", folder=tmp_path)
