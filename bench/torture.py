"""Kill runs at random moments, resume them, kill them again, and compare what they leave with an undisturbed run.

    python -m bench.torture --runs 100
    python -m bench.torture --runs 5 --real --num-steps 6

Every run is a process of its own, killed with SIGKILL: while it imports, judges, steps, saves or renames, wherever the
clock falls; two kills in three wait until it makes steps, which are the smaller part of so short a run. The resumed
process is killed once more; then it is let through. Weights, moments, metrics, metadata and the record must be those of
the undisturbed run, byte for byte but for times, and `apr verify` must say yes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apr.base.files import sha256_file
from apr.convert.published import fetch_published
from apr.workflows.falsify_scene import encode_sample, tokenizer_in
from apr.workflows.importing import import_model
from apr.workflows.small_models import SMALL_CONFIGS, small_tokenizer, write_small_model

_TIMES = {"tokens_per_sec", "wall_seconds"}
_NOTHING_BEGAN = "APR631"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The run that is tormented."""

    arguments: tuple[str, ...]  # of apr pretrain, without --run-dir
    seconds: float = 0.0  # of an undisturbed run
    training_s: float = 0.0  # of its steps, validations and saves


def command(job: Job, run_dir: Path, *, resume: bool) -> list[str]:
    """The command line of a process."""
    what = ("--resume",) if resume else job.arguments
    return [sys.executable, "-m", "apr", "pretrain", "--run-dir", str(run_dir), *what]


def left_behind(run_dir: Path) -> dict[str, Any]:
    """Digests of everything that a run leaves, and its documents without their times."""
    found: dict[str, Any] = {}
    for path in sorted(run_dir.rglob("*")):
        name = path.relative_to(run_dir).as_posix()
        if path.suffix in (".apr", ".safetensors"):
            found[name] = sha256_file(path)
        elif name.startswith("ckpt/") and path.suffix == ".json":
            found[name] = without_times(json.loads(path.read_bytes()))
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    found["metrics.jsonl"] = [without_times(json.loads(line)) for line in lines]
    found["best.json"] = json.loads((run_dir / "best.json").read_bytes())
    record = json.loads((run_dir / "record.json").read_bytes())
    found["record"] = {key: record[key] for key in ("outcome", "steps", "tokens", "checkpoints")}
    return found


def without_times(document: dict[str, Any]) -> dict[str, Any]:
    """The document but for what a clock told."""
    return {key: value for key, value in document.items() if key not in _TIMES}


def run_killed(line: Sequence[str], after_s: float, once: Path | None) -> bool:
    """Start a process and kill it after some time, counted from the first growth of a file if one is named.

    Returns:
        Whether it was still alive then.
    """
    before = size_of(once)
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while once is not None and process.poll() is None and size_of(once) <= before:
        time.sleep(0.01)
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    return False


def size_of(path: Path | None) -> int:
    """Bytes of a file; 0 where there is none."""
    return path.stat().st_size if path is not None and path.is_file() else 0


def run_through(line: Sequence[str]) -> str:
    """Run a process to its end; returns what it said."""
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr


def torment(job: Job, run_dir: Path, random_: random.Random) -> tuple[int, str]:
    """Kill a run twice, then let it through.

    Returns:
        How often it was killed, and what went wrong; empty where nothing did.
    """
    kills, began = 0, False
    for _ in range(2):
        line = command(job, run_dir, resume=began)
        while_training = random_.random() < 2 / 3
        metrics = run_dir / "metrics.jsonl" if while_training else None
        kills += run_killed(
            line, random_.uniform(0.0, job.training_s if while_training else job.seconds), metrics
        )
        began = (run_dir / "plan.json").is_file()
    if (run_dir / "record.json").is_file():
        return kills, ""  # it ended before the clock
    said = run_through(command(job, run_dir, resume=began))
    return kills, said


def verified(run_dir: Path) -> str:
    """What `apr verify` objects to; empty where it says yes."""
    return run_through([sys.executable, "-m", "apr", "verify", str(run_dir)])


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Names of what is not the same."""
    names = sorted({*found, *expected})
    return [name for name in names if found.get(name) != expected.get(name)]


def main() -> int:
    """Run it; exit code 1 when a run came out otherwise."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--real", action="store_true", help="SmolLM2 instead of a tiny model")
    parser.add_argument("--num-steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="apr-torture-") as name:
        return torture(options, Path(name))


def torture(options: argparse.Namespace, folder: Path) -> int:
    """Make an undisturbed run, then the tormented ones."""
    sizes = ("--batch-size", "2", "--seq-length", "32", "--val-tokens", "256")
    if options.real:
        model = folder / "model.apr"
        import_model(str(fetch_published("smollm2-135m-instruct")), model, oracle="self")
        sizes = ("--batch-size", "1", "--seq-length", "128", "--val-tokens", "256")
    else:
        model = write_small_model(folder / "model.apr", SMALL_CONFIGS["llama-tied"], small_tokenizer())
    dataset = encode_sample(tokenizer_in(model), folder)
    job = Job(
        arguments=(
            *("--init", str(model), "--dataset", str(dataset), *sizes, "--lr", "1e-3", "--warmup-steps", "2"),
            *("--num-steps", str(options.num_steps), "--steps-per-epoch", "3", "--device", "cpu"),
            *("--keep", "last:2,best"),
        )
    )
    whole = folder / "undisturbed"
    start = time.monotonic()
    if said := run_through(command(job, whole, resume=False)):
        print(said)
        return 1
    seconds = time.monotonic() - start
    times = [path.stat().st_mtime for path in (whole / "certificate.json", whole / "record.json")]
    job = Job(arguments=job.arguments, seconds=seconds, training_s=times[1] - times[0])
    expected, random_ = left_behind(whole), random.Random(options.seed)
    bad = kills = 0
    for number in range(options.runs):
        run_dir = folder / f"run-{number}"
        killed, said = torment(job, run_dir, random_)
        kills += killed
        wrong = said or verified(run_dir)
        if not wrong:
            wrong = ", ".join(differences(left_behind(run_dir), expected))
        bad += bool(wrong)
        print(f"run {number}: killed {killed} times, {wrong or 'the same'}", flush=True)
        if not wrong:
            shutil.rmtree(run_dir)
    print(f"{options.runs - bad} of {options.runs} runs the same as the undisturbed one, {kills} kills")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
