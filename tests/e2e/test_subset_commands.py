"""`--lora` and `--freeze` through the real command line: killed and resumed, merged, evaluated, refused."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from apr.arch.inventory import EMBEDDING
from command import run_apr
from tiny import QUICK, read_json

LONG = (
    *(
        "--num-steps",
        "120",
        "--batch-size",
        "2",
        "--seq-length",
        "32",
        "--steps-per-epoch",
        "20",
        "--lr",
        "1e-3",
    ),
    *("--val-tokens", "256", "--device", "cpu", "--dtype", "fp32", "--lora", "r=4,targets=q,k,v,o"),
    *("--target-val-loss", "0.1", "--allow-shard-cycle"),
)


def killed_after_a_state(run_dir: Path, *arguments: object) -> None:
    """Start a run and kill it with SIGKILL once a state of it is whole."""
    command = [sys.executable, "-m", "apr", "pretrain", *map(str, arguments), "--run-dir", str(run_dir)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 300
        while not list(run_dir.glob("state/step-*")) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert list(run_dir.glob("state/step-*"))
    assert not (run_dir / "record.json").exists()


def test_a_lora_run_that_is_killed_ends_in_the_same_bytes(
    tiny_apr: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    inputs = ("--init", tiny_apr, "--dataset", tiny_shards, *LONG)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert run_apr("pretrain", *inputs, "--run-dir", whole).code == 0
    killed_after_a_state(stopped, *inputs)
    resumed = run_apr("pretrain", "--resume", "--run-dir", stopped)
    assert resumed.code == 0, resumed.stderr
    names = {path.relative_to(whole).as_posix() for path in whole.glob("ckpt/**/*") if path.is_file()}
    assert any(name.endswith("adapter_model.safetensors") for name in names)
    for name in names:
        if not name.endswith(".metadata.json"):
            assert (stopped / name).read_bytes() == (whole / name).read_bytes(), name
    assert run_apr("verify", stopped, "--init", tiny_apr).code == 0
    merged = sorted(stopped.glob("ckpt/*.apr"))[-1]
    found = run_apr("eval", merged, "--dataset", tiny_shards / "val", "--seq-length", 32, "--format", "json")
    assert found.code == 0, found.stderr


def test_a_frozen_part_from_a_run_file(tiny_apr: Path, tiny_shards: Path, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('[model]\nfreeze = ["*.q_proj.*", "lm_head.weight"]\n')
    inputs = ("--init", tiny_apr, "--dataset", tiny_shards, *QUICK, "--config", tmp_path / "run.toml")
    planned = run_apr("plan", *inputs, "--why")
    assert planned.code == 0, planned.stderr
    assert "trained" in planned.stdout
    assert "run.toml:2 model.freeze" in planned.stdout
    assert EMBEDDING in planned.stderr  # the other name of the tied pair
    trained = run_apr("pretrain", *inputs, "--run-dir", tmp_path / "run")
    assert trained.code == 0, trained.stderr
    value = read_json(tmp_path / "run/plan.json")["values"]["freeze"]["value"]
    assert value == ["*.q_proj.*", "lm_head.weight"]
    assert run_apr("verify", tmp_path / "run").code == 0
    again = run_apr(
        "plan", *inputs, "--set", "model.freeze=*norm*", "--freeze", EMBEDDING, "--format", "json"
    )
    assert again.json["plan"]["values"]["freeze"] == {"value": [EMBEDDING], "source": "--freeze"}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--freeze", "model.layer.*"), "APR682"),
        (("--freeze", "*"), "APR683"),
        (("--lora", "r=4,dropout=0.1"), "APR681"),
        (("--lora", "r=4,targets=q,lm_head"), "APR681"),
        (("--lora", "r=4", "--freeze", "*norm*"), "APR685"),
        (("--lora", "16"), "APR001"),
        (("--set", "model.freeze=[1]"), "APR653"),
    ],
)
def test_what_means_nothing_is_refused(
    options: tuple[str, ...], error: str, tiny_apr: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    inputs = ("--init", tiny_apr, "--dataset", tiny_shards, *QUICK, "--run-dir", tmp_path / "run")
    found = run_apr("pretrain", *inputs, *options, "--format", "json")
    assert (found.code, found.error_id) == (2, error)
    assert not (tmp_path / "run").exists()
