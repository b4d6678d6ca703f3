"""A run of a real model that is left alone and killed twice on the way: python -m bench.left_alone.

500 steps of SmolLM2-135M on the source of the Python standard library, killed with SIGKILL after a third and two thirds
of them, resumed each time by the same command line. The validation loss must end below that of step 0 by more than
twice its standard error, and `apr verify` must say yes to what lies in the run directory.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.__main__ import RESULTS, machine, prepared

NUM_STEPS = 500
SIZES = ("--batch-size", "2", "--seq-length", "256", "--val-tokens", "16384")
OPTIONS = (*SIZES, "--steps-per-epoch", "100", "--keep", "last:2,best", "--device", "cpu")


def apr(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "apr", *arguments]


def num_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def killed_at(line: list[str], metrics: Path, step: int) -> int:
    """Run a process until the metrics tell of a step, and kill it; returns the steps that were told of."""
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while num_lines(metrics) < step:
        if process.poll() is not None:
            raise SystemExit(f"the run ended by itself with {process.returncode}: {line}")
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return num_lines(metrics)


def verdict_of(run_dir: Path) -> dict[str, Any]:
    done = subprocess.run(
        apr("verify", str(run_dir), "--format", "json"), stdout=subprocess.PIPE, check=False
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return {"verdict": found["verdict"], "exit_code": done.returncode}


def left_alone(folder: Path) -> dict[str, Any]:
    """Make the run; returns what it came to."""
    _, model = prepared("smollm2-135m-instruct", "keep")
    shards, run_dir = folder / "shards", folder / "run"
    text = sysconfig.get_paths()["stdlib"]
    subprocess.run(
        apr("tokenize", "encode-corpus", "--corpus", text, "--glob", "*.py", "--tokenizer", str(model),
            "-o", str(shards)),
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    start = apr("pretrain", "--init", str(model), "--dataset", str(shards), "--run-dir", str(run_dir),
                "--num-steps", str(NUM_STEPS), *OPTIONS)  # fmt: skip
    resume = apr("pretrain", "--resume", "--run-dir", str(run_dir))
    metrics, began = run_dir / "metrics.jsonl", time.monotonic()
    kills = [killed_at(start, metrics, NUM_STEPS // 3), killed_at(resume, metrics, 2 * NUM_STEPS // 3)]
    subprocess.run(resume, check=True, stdout=subprocess.DEVNULL)
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    record = json.loads((run_dir / "record.json").read_bytes())
    last = json.loads((run_dir / record["checkpoints"][-1]).with_suffix(".metadata.json").read_bytes())
    before, after = record["certificate"]["step0"]["val_loss"], last["val_loss"]
    verified = verdict_of(run_dir)
    holds = before - after > 2 * last["val_standard_error"] and verified["verdict"] == "yes"
    return {
        "holds": holds and steps == list(range(1, NUM_STEPS + 1)),
        "outcome": record["outcome"],
        "killed_after_steps": kills,
        "val_loss": {"step_0": before, "end": after, "standard_error": last["val_standard_error"]},
        "steps_without_gap": all(b == a + 1 for a, b in pairwise(steps)),
        "num_steps": len(steps),
        "verify": verified,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "machine": machine(),
    }


def main() -> int:
    argparse.ArgumentParser(prog="python -m bench.left_alone", description=__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="apr-left-alone-") as name:
        found = left_alone(Path(name))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "left-alone.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    return 0 if found["holds"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
