"""The script of the long fine-tune, on a tiny model: what it measures, and nothing where nothing ran."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("finetune.py")
SMALL = (
    "--seq-length=32",
    "--lr=1e-3",
    "--warmup-steps=2",
    "--seed=42",
    "--val-tokens=1024",
)


def ended(model: Path, num_steps: int, batch_size: int = 1) -> subprocess.CompletedProcess[str]:
    asked = (f"--checkpoint={model}", f"--num-steps={num_steps}", f"--batch-size={batch_size}")
    command = [sys.executable, str(SCRIPT), *asked, *SMALL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    return done


def printed(model: Path, num_steps: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ended(model, num_steps).stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("num_steps", [20, 0])
def test_the_gain_is_that_of_the_steps(tiny_apr: Path, num_steps: int) -> None:
    found = printed(tiny_apr, num_steps)
    assert found["steps"] == len(found["train_loss"]) == num_steps
    assert found["num_tokens"] == 1024
    gain = (found["loss_before"] - found["loss_after"]) / (found["standard_error_of_the_difference"] or 1)
    assert found["gain_in_standard_errors"] == pytest.approx(gain)
    assert (gain > 2) == (num_steps > 0)
    assert gain != 0 or num_steps == 0


def test_a_machine_that_is_too_small_gives_no_figure(tiny_apr: Path) -> None:
    done = ended(tiny_apr, 1, batch_size=100_000)
    assert "APR606" in done.stderr
    assert not done.stdout
