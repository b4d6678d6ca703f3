"""`python -m bench.tolerance MODEL.apr ... [--page docs/tolerance.md]`: measure, derive the limits, write the page.

Figures go to bench/results/tolerance.json, model by model; without models the page is written from what is there.
The figures are numerics: another process on the machine does not change them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from apr.base.environment import cpu_count, cpu_flags, versions
from bench.tolerance.page import page

RESULTS = Path(__file__).parents[1] / "results" / "tolerance.json"
_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx_vnni",
    "amx_bf16",
    "amx_tile",
    "sha_ni",
    "bf16",
    "sve",
    "asimd",
)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def digest_speed() -> dict[str, Any]:
    """sha256 on one core, 64 MB a block: the best of five passes of 512 MB, by the time that the core gave us."""
    block, seconds = os.urandom(64 << 20), []
    for _ in range(5):
        digest, start = hashlib.sha256(), time.process_time()
        for _ in range(8):
            digest.update(block)
        seconds.append(time.process_time() - start)
    speeds = [8 * len(block) / each / 1e9 for each in seconds]
    return {
        "algorithm": "sha256",
        "block_mb": 64,
        "gb_per_s": round(max(speeds), 3),
        "all": [round(x, 3) for x in speeds],
    }


def machine() -> dict[str, Any]:
    import torch

    return {
        "cores": cpu_count(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_flags": sorted(cpu_flags() & set(_FLAGS)),
        "versions": versions("torch", "transformers", "numpy"),
    }


def write(results: dict[str, Any]) -> None:
    """A line a pass, so that a change of figures can be read in a diff."""
    lines = json.dumps(results, indent=1).split("\n")
    RESULTS.write_text("\n".join(_joined(lines)) + "\n", encoding="utf-8")


def _joined(lines: list[str]) -> list[str]:
    """Put what is nested five deep and more on the line of its parent."""
    joined: list[str] = []
    for line in lines:
        depth = len(line) - len(line.lstrip())
        if depth > 5 or (depth == 5 and line.strip()[0] in "]}" and joined[-1].startswith("     ")):
            joined[-1] += (" " if joined[-1][-1] in ",:" else "") + line.strip()
        else:
            joined.append(line)
    return joined


def measure(paths: list[Path], steps: str, results: dict[str, Any]) -> None:
    from bench.tolerance.model import measure_model

    for path in paths:
        kept = results["models"].setdefault(path.stem, {})
        measure_model(path, steps, kept, say, lambda: write(results))
        write(results)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.tolerance", description=__doc__)
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL.apr")
    parser.add_argument(
        "--steps", default="noise,stored,processors,faults", help="what to measure, in this order"
    )
    parser.add_argument("--page", type=Path, help="the Markdown page to write")
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"models": {}}
    if options.models:
        results["machine"] = machine()
        for step in options.steps.split(","):
            say(f"== {step}")
            measure(options.models, step, results)
    if options.models or "digest" not in results:
        results["digest"] = digest_speed()
        write(results)
    if options.page:
        options.page.write_text(page(results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
