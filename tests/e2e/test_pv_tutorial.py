"""The commands of the pages about pv, run as they stand there."""

from __future__ import annotations

import json
from pathlib import Path

from command import run_apr
from pages import DOCS, run_page, shown


def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    done = run_page((DOCS / "pv-tutorial.md").read_text(), tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "could not fail  INFLECTION-FAL-003" in done.stdout
    assert "inflection-v1: FUNCTIONAL (3 of 3)" in done.stdout
    assert "| stale |" in done.stdout
    project = tmp_path / "place" / "inflection-0.5.1"
    told = run_apr("contracts", "status", project / "contracts", "--format", "json")
    states = [claim["state"] for claim in json.loads(told.stdout)["contracts"][0]["claims"]]
    assert states == ["survived", "survived", "stale"]
    assert (project / "status.html").read_text().startswith("<!doctype html>")


def test_the_page_of_pv_infer_does_what_it_says(tmp_path: Path) -> None:
    page = (DOCS / "pv-infer.md").read_text()
    done = run_page(page, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line for line in shown(page) if line not in done.stdout.splitlines()] == []
