"""The project whose claims are run: its root, its interpreter, and the environment that its processes get."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pv.run.errors import InterpreterWrong

INSIDE = Path(__file__).parent.parent / "inside"  # what runs in the project's interpreter
_ABOUT_TIMEOUT_S = 60
# What a test run around pv, or a person's shell, would slip into ours: filters, plugins, a worker's identity.
# PYTHONOPTIMIZE takes every assertion away, PYTHONSAFEPATH the folder of our scripts.
_DROPPED = ("PYTEST_", "COV_CORE_", "PV_PLANT", "PV_REPORT", "PYTHONOPTIMIZE", "PYTHONSAFEPATH")


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project on this machine."""

    root: Path
    python: str = field(default=sys.executable)

    @cached_property
    def about(self) -> dict[str, Any]:
        """What the interpreter says of itself and of the machine.

        Raises:
            InterpreterWrong: it cannot be run.
        """
        try:
            done = subprocess.run(
                [self.python, str(INSIDE / "about.py")], cwd=self.root, env=self.env(), capture_output=True,
                text=True, timeout=_ABOUT_TIMEOUT_S, check=True,
            )  # fmt: skip
            told: dict[str, Any] = json.loads(done.stdout)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise InterpreterWrong(python=self.python, reason=reason) from None
        return told

    @property
    def environment(self) -> dict[str, Any]:
        """What of it belongs into evidence: everything but paths of this machine."""
        return {name: value for name, value in self.about.items() if name != "sys_path"}

    def env(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a process of the project.

        Args:
            more: variables that are added or replaced.
        """
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_DROPPED)}
        kept.setdefault("PYTHONHASHSEED", "0")
        return {**kept, **(more or {})}

    def inside(self, script: str, *arguments: str) -> list[str]:
        """The command that runs one of our scripts in the project's interpreter."""
        return [self.python, str(INSIDE / script), *arguments]

    def shown(self, argv: list[str]) -> list[str]:
        """A command as evidence spells it: without the paths of this machine."""
        return [self._shown(word) for word in argv]

    def _shown(self, word: str) -> str:
        word = "python" if word == self.python else word.replace(str(INSIDE) + os.sep, "pv/inside/")
        return word.replace(str(self.root) + os.sep, "")
