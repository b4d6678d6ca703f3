"""The script of the long fine-tune, on a tiny model: what it measures, and nothing where nothing ran."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("finetune.py")
SMALL = (
    "--seq-length=32",
    "--batch-size=1",
    "--lr=1e-3",
    "--warmup-steps=2",
    "--seed=42",
    "--val-tokens=1024",
)


def printed(model: Path, num_steps: int) -> dict[str, Any]:
    asked = (f"--checkpoint={model}", f"--num-steps={num_steps}", *SMALL)
    done = subprocess.run([sys.executable, str(SCRIPT), *asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
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


@pytest.mark.parametrize(("refused_as", "exit_code"), [("APR606", 0), ("APR605", 1)])
def test_a_machine_that_is_too_small_is_no_answer(
    refused_as: str, exit_code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, stdout=json.dumps({"error": {"id": refused_as}}))

    script = runpy.run_path(str(SCRIPT))
    monkeypatch.setattr(subprocess, "run", refused)
    with pytest.raises(SystemExit) as ended:
        script["apr"]("pretrain")
    assert bool(ended.value.code) == bool(exit_code)
    assert not capsys.readouterr().out  # no figure
