"""A run file that says what is no setting ends the command before anything is opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from e2e.refusal import call, refused, train
from tiny import QUICK


@pytest.mark.parametrize(
    ("text", "error_id", "says"),
    [
        ("[optimizer]\nlearning = 1\n", "APR652", {"key": "optimizer.learning", "nearest": "optimizer.lr"}),
        ("[run]\nsteps = 1\n", "APR652", {"key": "run.steps"}),
        ("[data]\nbatch_size = 1.5\n", "APR653", {"key": "data.batch_size", "value": "1.5"}),
        ("[data\n", "APR651", {}),
        ("[optimizer]\nweight_decay = -1\n", "APR001", {"value": "-1.0"}),
    ],
)
def test_a_bad_run_file(
    tmp_path: Path, tiny_apr: Path, tiny_shards: Path, text: str, error_id: str, says: dict[str, Any]
) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    arguments = train(tiny_apr, tiny_shards, tmp_path / "run", "--config", path)
    refused(*arguments, error_id=error_id, says=says, folder=tmp_path)


@pytest.mark.parametrize(
    ("text", "error_id"),
    [("a.b=c", "APR652"), ("run.seed", "APR001"), ("run.seed=x", "APR653"), ("run.seed=-1", "APR001")],
)
def test_a_bad_assignment(
    tmp_path: Path, tiny_apr: Path, tiny_shards: Path, text: str, error_id: str
) -> None:
    arguments = train(tiny_apr, tiny_shards, tmp_path / "run", "--set", text)
    refused(*arguments, error_id=error_id, folder=tmp_path)


def test_a_run_file_is_enough(tmp_path: Path, tiny_apr: Path, tiny_shards: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        f'[model]\ninit = "{tiny_apr}"\n[data]\ndataset = "{tiny_shards}"\n[run]\nrun_dir = "here"\nseed = 7\n'
    )
    done = call("pretrain", "--config", path, *QUICK, "--set", "run.num_steps=1", "--format", "json")
    assert done.code == 0, done.stderr
    values = json.loads((tmp_path / "here" / "plan.json").read_bytes())["values"]
    assert values["seed"] == {"value": 7, "source": f"{path}:7 run.seed"}
    assert values["from_init"]["source"] == f"{path}:2 model.init"


@pytest.mark.parametrize("left_out", ["--dataset", "--run-dir"])
def test_what_must_be_named_somewhere(
    tmp_path: Path, tiny_apr: Path, tiny_shards: Path, left_out: str
) -> None:
    arguments = list(train(tiny_apr, tiny_shards, tmp_path / "run"))
    at = arguments.index(left_out)
    refused(
        *arguments[:at], *arguments[at + 2 :], error_id="APR005", says={"what": left_out}, folder=tmp_path
    )
