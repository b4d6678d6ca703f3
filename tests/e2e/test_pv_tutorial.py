"""The commands of docs/pv-tutorial.md, run as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from command import run_apr

PAGE = Path(__file__).parents[2] / "docs" / "pv-tutorial.md"
_BLOCK = re.compile(
    r"(?:<!-- file: (?P<file>\S+) -->\n)?```(?P<kind>sh|yaml|text)\n(?P<text>.*?)```", re.DOTALL
)
_EXIT = re.compile(r"\s+# exit (?P<code>\d+)$")


def script(page: str) -> str:
    """The page as one shell script that stops where an exit code is not the one that it names."""
    lines = ["set -u"]
    for block in _BLOCK.finditer(page):
        if block["file"]:
            lines.append(f"cat > {block['file']} <<'END_OF_FILE'\n{block['text']}END_OF_FILE")
        elif block["kind"] == "sh":
            lines += [_checked(line) for line in block["text"].splitlines()]
    return "\n".join(lines)


def _checked(line: str) -> str:
    found = _EXIT.search(line)
    code = found["code"] if found else "0"
    command = line[: found.start()] if found else line
    return f'{command}\ncode=$?; [ $code -eq {code} ] || {{ echo "exit $code of: {command[:60]}" >&2; exit 99; }}'


def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, module in (("pv", "pv"), ("pip", "pip")):
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        (tools / name).chmod(0o755)
    place = tmp_path / "place"
    place.mkdir()
    env = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script(PAGE.read_text())],
        cwd=place,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "could not fail  INFLECTION-FAL-003" in done.stdout
    assert "inflection-v1: FUNCTIONAL (3 of 3)" in done.stdout
    assert "| stale |" in done.stdout
    project = place / "inflection-0.5.1"
    told = run_apr("contracts", "status", project / "contracts", "--format", "json")
    states = [claim["state"] for claim in json.loads(told.stdout)["contracts"][0]["claims"]]
    assert states == ["survived", "survived", "stale"]
    assert (project / "status.html").read_text().startswith("<!doctype html>")
