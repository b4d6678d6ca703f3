"""Pages of docs/ whose commands are run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
_BLOCK = re.compile(
    r"(?:<!-- file: (?P<file>\S+) -->\n)?```(?P<kind>sh|yaml|python|text)\n(?P<text>.*?)```", re.DOTALL
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


def shown(page: str) -> list[str]:
    """The lines of output that the page shows."""
    texts = [
        block["text"] for block in _BLOCK.finditer(page) if block["kind"] == "text" and not block["file"]
    ]
    return [line for text in texts for line in text.splitlines()]


def _checked(line: str) -> str:
    found = _EXIT.search(line)
    code = found["code"] if found else "0"
    command = line[: found.start()] if found else line
    return f'{command}\ncode=$?; [ $code -eq {code} ] || {{ echo "exit $code of: {command[:60]}" >&2; exit 99; }}'


def run_page(page: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the commands of a page in a folder `place`, with this interpreter's pv, pip and python."""
    tools = folder / "bin"
    tools.mkdir()
    for name, words in (("pv", "-m pv "), ("pip", "-m pip "), ("python", "")):
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}"$@"\n')
        (tools / name).chmod(0o755)
    place = folder / "place"
    place.mkdir()
    env = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-c", script(page)], cwd=place, env=env, capture_output=True, text=True, check=False
    )
