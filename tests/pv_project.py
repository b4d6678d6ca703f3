"""A tiny project with a contract of its own, and pv put to it."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pv.cli.main import entry

SPLIT = """\
LIMIT = 10


def side(n):
    return "val" if n % LIMIT == 0 else "train"


class Split:
    @staticmethod
    def side(n):
        return side(n)
"""
TESTS = """\
import pytest
from split import Split, side


def test_side():
    assert side(10) == "val"
    assert side(11) == "train"


def test_split():
    assert Split.side(10) == "val"


def test_asserts_nothing():
    side(10)
"""
HEAD = """\
metadata:
  version: "1.0.0"
  created: 2026-02-18
  description: The two sides of a split share no document.
  references: [docs/split.md]
  depends_on: [{depends_on}]{status}
equations:
  disjoint:
    formula: train & val = {{}}
proof_obligations:
  - id: {prefix}OBL
    type: invariant
    property: no document is on both sides
    tolerance: 0.5
"""
PATCH = '{patch: "split:side", returns: train}'


@dataclass(frozen=True)
class Outcome:
    """What a command of pv did."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)

    def row(self, claim: str) -> dict[str, Any]:
        """The result of one claim."""
        return next(row for row in self.json["results"] if row["id"] == claim)

    def verdict(self, claim: str) -> str:
        return str(self.row(claim)["verdict"])


def pv(*arguments: object) -> Outcome:
    """Run the command line of pv in this process; what it runs is in processes of its own."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = entry([str(word) for word in arguments])
    return Outcome(code, out.getvalue(), err.getvalue())


@dataclass
class Trial:
    """A project in a folder, with contracts that are written claim by claim."""

    root: Path
    claims: dict[str, list[str]] = field(default_factory=dict)
    proofs: dict[str, list[str]] = field(default_factory=dict)
    heads: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def at(cls, root: Path, tests: str = "") -> Trial:
        for folder in ("contracts", "src/split", "tests", "docs"):
            (root / folder).mkdir(parents=True)
        (root / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["src"]\n')
        (root / "src/split/__init__.py").write_text(SPLIT)
        (root / "tests/test_split.py").write_text(TESTS + tests)
        return cls(root=root)

    def head(self, stem: str = "split-v1", *, status: str = "", depends_on: str = "") -> None:
        self.heads[stem] = {
            "status": f"\n  status: {status}" if status else "",
            "depends_on": depends_on,
        }

    def claim(
        self, claim: str, runner: str, control: str | None = PATCH, stem: str = "split-v1", **more: object
    ) -> None:
        """Add a falsification test; `runner` is a test's name, or a mapping as YAML."""
        if not runner.startswith("{") and runner != "null":
            runner = f'{{pytest: "tests/test_split.py::{runner}"}}'
        fields = {
            "id": claim, "rule": "r", "prediction": "p", "if_fails": "f", "refutes": f"[{_prefix(stem)}OBL]",
            "runner": runner, "subjects": "[src/split/*.py]", **more,
        }  # fmt: skip
        if control is not None:
            fields["control"] = control
        lines = [f"{name}: {value}" for name, value in fields.items()]
        self.claims.setdefault(stem, []).append("  - " + "\n    ".join(lines) + "\n")
        self.write()

    def proof(self, claim: str, runner: str, control: str | None = None, stem: str = "split-v1") -> None:
        fields = {
            "id": claim,
            "obligation": f"{_prefix(stem)}OBL",
            "runner": runner,
            "subjects": "[src/split/*.py]",
        }
        if control is not None:
            fields["control"] = control
        text = "  - {" + ", ".join(f"{name}: {value}" for name, value in fields.items()) + "}\n"
        self.proofs.setdefault(stem, []).append(text)
        self.write()

    def write(self) -> None:
        for stem in {**self.claims, **self.proofs, **self.heads}:
            head = {"status": "", "depends_on": "", **self.heads.get(stem, {})}
            text = HEAD.format(prefix=_prefix(stem), **head)
            if stem in self.claims:
                text += "falsification_tests:\n" + "".join(self.claims[stem])
            if stem in self.proofs:
                text += "bounded_proofs:\n" + "".join(self.proofs[stem])
            self.contract(stem).write_text(text)

    def contract(self, stem: str = "split-v1") -> Path:
        return self.root / "contracts" / f"{stem}.yaml"

    def change(self, path: str, old: str, new: str) -> None:
        """Replace a text of a file that stands there once."""
        file = self.root / path
        text = file.read_text()
        assert text.count(old) == 1
        file.write_text(text.replace(old, new))

    def falsify(self, *arguments: object) -> Outcome:
        return pv("falsify", self.root / "contracts", "--format", "json", *arguments)

    def prove(self, *arguments: object) -> Outcome:
        return pv("prove", self.root / "contracts", "--format", "json", *arguments)

    def status(self, *arguments: object) -> Outcome:
        return pv("status", self.root / "contracts", "--format", "json", *arguments)

    def evidence(self, claim: str, stem: str = "split-v1") -> list[Path]:
        """The recorded runs of a claim, by file name."""
        return sorted((self.root / "evidence" / stem / claim).glob("*.json"))


def _prefix(stem: str) -> str:
    return stem.upper() + "-"
