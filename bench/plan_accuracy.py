"""How near `apr plan` comes: its memory and its time beside those of the run that follows, at four settings a model.

    python -m bench.plan_accuracy smollm2=MODEL.apr,SHARDS qwen=MODEL.apr,SHARDS

Nothing else may run for the times to mean anything; where memory is short the system takes mapped pages back, and the
measured peak is then too low.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.__main__ import RESULTS, machine

CLAIM = "apr plan: peak memory within 15 % and time per step within 25 % of the measured"
BAR = {"memory": 0.15, "time": 0.25}


@dataclass(frozen=True)
class Setting:
    dtype: str
    batch_size: int
    seq_length: int
    grad_accum: int

    @property
    def options(self) -> list[str]:
        pairs = ((f"--{name.replace('_', '-')}", str(value)) for name, value in asdict(self).items())
        return [word for pair in pairs for word in pair]

    def __str__(self) -> str:
        return f"{self.dtype} {self.batch_size}x{self.seq_length}, {self.grad_accum} micro-batches"


SETTINGS = (
    Setting("fp32", 1, 128, 1),
    Setting("bf16", 2, 256, 2),
    Setting("bf16", 2, 512, 1),
    Setting("fp32", 4, 256, 1),
)
SMALL = (
    Setting("fp32", 1, 64, 1),
    Setting("bf16", 2, 128, 2),
    Setting("fp32", 2, 256, 1),
    Setting("bf16", 1, 256, 2),
)


def planned(arguments: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "apr", "plan", *arguments, "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def measured(arguments: list[str], folder: Path) -> dict[str, float]:
    """Run it; the peak is the kernel's own count, the time is the median of the steps after the first."""
    command = [sys.executable, "-m", "apr", "pretrain", *arguments, "--run-dir", str(folder / "run")]
    with (folder / "talk").open("w") as talk:
        child = subprocess.Popen(command, stdout=talk, stderr=talk)
        _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit((folder / "talk").read_text())
    lines = map(json.loads, (folder / "run" / "metrics.jsonl").read_text().splitlines())
    steps = [(line["tokens_seen"], line["tokens_per_sec"]) for line in lines]
    seconds = [(seen - before) / rate for (before, _), (seen, rate) in pairwise(steps)]
    return {"peak_bytes": usage.ru_maxrss * 1024, "seconds_per_step": statistics.median(seconds)}


def compare(name: str, model: str, shards: str, setting: Setting, num_steps: int) -> dict[str, Any]:
    arguments = ["--init", model, "--dataset", shards, "--num-steps", str(num_steps), *setting.options]
    arguments += ["--device", "cpu", "--warmup-steps", "1", "--val-tokens", str(setting.seq_length)]
    plan = planned(arguments)
    with tempfile.TemporaryDirectory() as folder:
        run = measured(arguments, Path(folder))
    return {
        "model": name,
        "setting": asdict(setting),
        "planned": {"memory": plan["memory"], "seconds_per_step": plan["seconds_per_step"]},
        "measured": run,
        "memory": plan["memory"]["peak"] / run["peak_bytes"],
        "time": plan["seconds_per_step"] / run["seconds_per_step"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.plan_accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL.apr,SHARDS")
    parser.add_argument("--steps", type=int, default=4, help="of each run; the first is not counted")
    parser.add_argument("--small", action="store_true", help="settings that take little time and memory")
    parser.add_argument("--memory-only", action="store_true", help="do not judge the times")
    options = parser.parse_args()
    rows = []
    for spelled in options.models:
        name, _, places = spelled.partition("=")
        model, _, shards = places.partition(",")
        for setting in SMALL if options.small else SETTINGS:
            row = compare(name, model, shards, setting, options.steps)
            rows.append(row)
            peaks = [row["planned"]["memory"]["peak"], row["measured"]["peak_bytes"]]
            times = [row["planned"]["seconds_per_step"], row["measured"]["seconds_per_step"]]
            print(
                f"{name:10} {setting!s:32}",
                f"memory {peaks[0] / 1e9:6.2f} GB of {peaks[1] / 1e9:6.2f}, {row['memory']:.2f}",
                f"  time {times[0]:6.2f} s of {times[1]:6.2f}, {row['time']:.2f}",
                flush=True,
            )
    judged = ("memory",) if options.memory_only else tuple(BAR)
    holds = all(abs(row[what] - 1) <= BAR[what] for row in rows for what in judged)
    if not (options.small or options.memory_only):
        result = {"claim": CLAIM, "bar": BAR, "holds": holds, "rows": rows, "machine": machine()}
        (RESULTS / "plan_accuracy.json").write_text(json.dumps(result, indent=2) + "\n")
    print("holds" if holds else "DOES NOT HOLD")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
