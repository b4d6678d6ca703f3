"""The real command line, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.stdout)

    @property
    def error_id(self) -> str:
        return self.json["error"]["id"]


def run_apr(*arguments: object, cwd: Path | None = None, timeout: int = 600, env: Any = None) -> Outcome:
    """Run the real command line in a process of its own."""
    command = [sys.executable, "-m", "apr", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, timeout=timeout, check=False, env=env
    )
    return Outcome(done.returncode, done.stdout, done.stderr)
