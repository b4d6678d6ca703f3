"""Options that no other test brings through the real command line, each seen to do what it says."""

from __future__ import annotations

import json
from pathlib import Path

from command import run_apr
from tiny import QUICK

TEXT = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"


def encoded(tmp_path: Path, tokenizer: Path, *options: str) -> int:
    """How many documents of three a dataset holds: a text, its copy, and one that resembles it."""
    corpus = tmp_path / "corpus.jsonl"
    texts = (TEXT, TEXT, TEXT.replace("sixteen", "seventeen"))
    corpus.write_text("".join(json.dumps({"body": text}) + "\n" for text in texts))
    files = ("--corpus", corpus, "--tokenizer", tokenizer, "-o", tmp_path / "shards", "--force")
    done = run_apr(
        "tokenize", "encode-corpus", *files, "--content-field", "body", "--val-fraction", "0", *options
    )
    assert done.code == 0, done.stderr
    return json.loads((tmp_path / "shards" / "manifest.json").read_bytes())["total_documents"]


def test_a_named_field_is_read_and_copies_are_left_out(tmp_path: Path, tiny_apr: Path) -> None:
    assert encoded(tmp_path, tiny_apr) == 3
    assert encoded(tmp_path, tiny_apr, "--dedup", "exact") == 2
    assert encoded(tmp_path, tiny_apr, "--dedup", "near", "--dedup-threshold", "0.7") == 1


def test_how_it_saves_is_planned_and_done(tmp_path: Path, tiny_apr: Path, tiny_shards: Path) -> None:
    inputs = ("--init", tiny_apr, "--dataset", tiny_shards, "--num-steps", "1", *QUICK)
    plan = run_apr("plan", *inputs, "--save", "blocking", "--format", "json")
    assert plan.code == 0, plan.stderr
    run_dir = tmp_path / "run"
    run = run_apr("pretrain", *inputs, "--run-dir", run_dir, "--save", "blocking", "--format", "json")
    assert run.code == 0, run.stderr
    assert json.loads((run_dir / "plan.json").read_bytes())["values"]["save"]["value"] == "blocking"


def test_one_fault_is_planted_where_it_was_said(tmp_path: Path, tiny_apr: Path, tiny_shards: Path) -> None:
    listed = run_apr("falsify", "--list", "--format", "json")
    assert listed.code == 0, listed.stderr
    assert "loader.unfilled" in listed.stdout
    where = tmp_path / "work"
    where.mkdir()
    chosen = ("--only", "loader.unfilled", "--jobs", "1", "--work-dir", where)
    done = run_apr("falsify", tiny_apr, "--dataset", tiny_shards, *chosen, "--format", "json")
    assert done.code == 0, done.stderr
    assert (done.json["planted"], done.json["caught"]) == (1, 1)
    assert not list(where.iterdir())
