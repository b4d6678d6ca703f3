"""Freed blocks are kept for the next time, measured in page faults."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import resource, sys
import numpy as np
from apr.base.environment import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def use():
    np.empty(64 << 20, dtype=np.uint8)[:: 4096] = 1
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(word: str) -> int:
    done = subprocess.run([sys.executable, "-c", _PROGRAM, word], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_a_block_is_not_given_back_and_fetched_anew() -> None:
    given_back, kept = faults("as usual"), faults("keep")
    assert kept < given_back / 10
