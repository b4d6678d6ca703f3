"""What `apr verify` says of edited and damaged runs: the list on stdout, one sentence on stderr, an exit code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from apr.base.files import write_json
from command import run_apr
from e2e.refusal import call, check_outcome, check_sentence, refused, snapshot, train
from tiny import read_json


@pytest.fixture(scope="module")
def run_dir(tiny_apr: Path, tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("runs") / "run"
    done = call(*train(tiny_apr, tiny_shards, folder))
    assert done.code == 0, done.stderr
    return folder


@pytest.fixture
def copied(run_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_dir, tmp_path / "run"))


def test_a_healthy_run(run_dir: Path, tiny_apr: Path, tiny_shards: Path) -> None:
    before = snapshot(run_dir)
    for path in (run_dir, run_dir / "certificate.json"):
        done = call("verify", path, "--init", tiny_apr, "--dataset", tiny_shards)
        assert done.code == 0, done.stderr
        *rows, verdict = done.stdout.splitlines()
        assert verdict.startswith("yes: ")
        assert read_json(run_dir / "certificate.json")["digest"] in verdict
        assert {row.split()[0] for row in rows} == {"yes", "not"}  # "not re-derived: ..."
        assert not any(row.startswith("not known") for row in rows)
        assert any(row.startswith("not re-derived: ") for row in rows)
    assert snapshot(run_dir) == before


def test_a_machine_gets_one_object(run_dir: Path) -> None:
    done = call("verify", run_dir, "--format", "json")
    assert (done.code, done.stdout.count("\n")) == (0, 1)
    assert set(done.json) == {"verdict", "checks", "not_rederived", "digest"}
    assert all(set(c) == {"id", "claim", "verdict", "found", "expected"} for c in done.json["checks"])
    assert {c["id"] for c in done.json["checks"] if c["verdict"] == "not known"} == {
        *("init.file", "dataset.train", "dataset.validation")
    }


def test_a_real_process_needs_nothing_else(run_dir: Path) -> None:
    done = run_apr("verify", run_dir / "certificate.json", "--format", "json")
    assert (done.code, done.json["verdict"]) == (0, "yes"), done.stderr


def edit_json(name: str, **values: object) -> Callable[[Path], None]:
    return lambda folder: write_json(folder / name, {**read_json(folder / name), **values})


def flip(name: str, at: int) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        raw = bytearray((folder / name).read_bytes())
        raw[at] ^= 1
        (folder / name).write_bytes(raw)

    return edit


def lower_a_loss(folder: Path) -> None:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines[0]["train_loss"] /= 2
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


EDITS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a space in the certificate": (
        lambda folder: (
            (folder / "certificate.json").write_bytes((folder / "certificate.json").read_bytes() + b" ")
            and None
        ),
        "certificate.bytes",
    ),
    "a grade": (edit_json("certificate.json", grade="A"), "certificate.digest"),
    "a cut certificate": (
        lambda folder: (folder / "certificate.json").write_bytes(b"") and None,
        "certificate.bytes",
    ),
    "an outcome": (edit_json("record.json", outcome="TARGET_MET"), "record.outcome"),
    "no checkpoints": (edit_json("record.json", checkpoints=[]), "record.outcome"),
    "no record": (lambda folder: (folder / "record.json").unlink(), "record.bytes"),
    "a training loss": (lower_a_loss, "ckpt/epoch-001.metadata"),
    "a validation loss": (edit_json("best.json", val_loss=None), "best.lowest"),
    "a weight": (flip("ckpt/epoch-002.apr", -900), "ckpt/epoch-002.file"),
    "a moment": (flip("state/step-00000004/optimizer.safetensors", -9), "state/step-00000004.optimizer"),
    "a plan's digest": (edit_json("plan.json", digest=""), "plan.values"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_one_sentence(name: str, copied: Path) -> None:
    edit, check_id = EDITS[name]
    edit(copied)
    before = snapshot(copied)
    done = call("verify", copied, "--format", "json")
    document = check_outcome(done, "APR520")
    assert (done.code, done.json["verdict"]) == (1, "no")
    assert document["facts"]["check"] == check_id
    assert {c["id"] for c in done.json["checks"] if c["verdict"] == "no"} >= {check_id}
    text = call("verify", copied)
    assert text.code == 1
    check_sentence(text.stderr, document)
    assert any(row.split()[:2] == ["no", check_id] for row in text.stdout.splitlines())
    assert text.stdout.splitlines()[-1].startswith("no: ")
    assert snapshot(copied) == before


def test_other_inputs(run_dir: Path, tiny_shards: Path, tmp_path: Path) -> None:
    other = run_dir / "ckpt" / "epoch-001.apr"
    document = check_outcome(call("verify", run_dir, "--init", other, "--format", "json"), "APR520")
    assert document["facts"]["check"] == "init.file"
    done = call("verify", run_dir, "--dataset", tiny_shards / "val", "--format", "json")
    assert check_outcome(done, "APR520")["facts"]["check"] == "dataset.train"


def test_no_run_and_no_certificate(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("{}")
    for path in (tmp_path / "empty", tmp_path / "notes.txt", run_dir / "plan.json"):
        document = refused("verify", path, error_id="APR521", says={"path": path}, folder=tmp_path)
        assert "apr pretrain" in document["help"]


def test_paths_that_are_not_there(run_dir: Path, tmp_path: Path) -> None:
    missing = tmp_path / "none"
    for arguments in ((missing,), (run_dir, "--init", missing), (run_dir, "--dataset", missing)):
        refused("verify", *arguments, error_id="APR101", says={"path": missing}, folder=tmp_path)


@pytest.mark.parametrize("more", [(), ("RUN", "--no-such-option"), ("RUN", "another")])
def test_usage(more: tuple[str, ...], tmp_path: Path) -> None:
    refused("verify", *more, error_id="APR005", folder=tmp_path)
