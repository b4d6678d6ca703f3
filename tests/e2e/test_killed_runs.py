"""Real processes that are killed with SIGKILL and resumed: a few of what `make torture` does a hundred times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_killed_and_resumed_twice_a_run_ends_in_the_same_bytes() -> None:
    command = [sys.executable, "-m", "bench.torture", "--runs", "3", "--seed", "11"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 of 3 runs the same" in done.stdout
