"""How long `pv validate` takes: one file from a cold process, and a folder of generated contracts.

The modules are compiled before, as those of an installed package are, whatever PYTHONDONTWRITEBYTECODE says here.

usage: python -m bench.contracts [--count 1000] [--rounds 10]
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pv.rules.examples import FALSIFIERS, STRICT_BASE

_TESTS_EACH = 8


def main() -> None:
    """Print both figures with their bars."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="contracts in the folder")
    parser.add_argument("--rounds", type=int, default=10, help="cold processes")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as compiled:
        folder = Path(name)
        os.environ["PYTHONPYCACHEPREFIX"] = compiled
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        for index in range(given.count):
            (folder / f"c-{index}.yaml").write_text(generated(index))
        validated(folder / "c-0.yaml")  # compiles
        one = [validated(folder / "c-0.yaml") for _ in range(given.rounds)]
        print(f"one file, cold: median {_said(one)}; bar 150 ms")
        print(f"{given.count:,} files: {_said([validated(folder)])}; bar 10,000 ms for 1,000")


def generated(index: int) -> str:
    """A valid contract of 100 lines, which depends on an earlier one."""
    tests = FALSIFIERS.partition("\n")[2]
    more = "".join(tests.replace("FAL-001", f"FAL-{n:03d}") for n in range(2, _TESTS_EACH + 1))
    text = STRICT_BASE.replace(FALSIFIERS, FALSIFIERS + more).replace("SPLIT-", f"C{index}-")
    return text.replace("depends_on: []", f"depends_on: [c-{index // 2}]") if index else text


def validated(path: Path) -> tuple[float, float]:
    """Wall and processor milliseconds of one process."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "pv", "validate", str(path)], check=True, capture_output=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return 1e3 * wall, 1e3 * used


def _said(times: list[tuple[float, float]]) -> str:
    wall, used = (statistics.median(column) for column in zip(*times, strict=True))
    return f"{wall:,.0f} ms ({used:,.0f} ms of a processor)"


if __name__ == "__main__":
    main()
