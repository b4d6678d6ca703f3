"""A contract to be filled in: its tests can be run, and it is invalid until somebody says what they claim."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

from pv.survey.errors import NoTests, TestsElsewhere

_HEAD = """\
# A skeleton by `pv scaffold`: fill in every empty text. `pv validate` and `pv lint` say what it lacks.
metadata:
  version: "0.1.0"
  created: {today}
  description: ""          # what must hold, in one sentence
  references: []           # where that is said: a page, a paper, an issue
  depends_on: []

proof_obligations:
  - id: {prefix}-OBL-001
    type: invariant
    property: ""           # one thing that must hold, whatever happens

falsification_tests:
"""
_TEST = """\
  - id: {prefix}-FAL-{number:03}
    rule: ""               # what is looked at
    prediction: ""         # what is expected, with its number
    if_fails: ""           # what it would mean for somebody who uses this
    refutes: [{prefix}-OBL-001]
    runner: {{pytest: "{node_id}"}}
    timeout_s: 60
    subjects: [{subjects}]
    # The defect that must make the test fail, or it shows nothing; one of
    #   {{edit: FILE, replace: TEXT, by: TEXT}}   {{patch: "module:name", returns: VALUE}}   {{env: {{NAME: value}}}}
    control: {{edit: "{source}", replace: "", by: ""}}
"""


def scaffold(name: str, tests: Sequence[str], root: Path, today: date) -> str:
    """The text of a skeleton.

    Args:
        name: of the contract, without .yaml.
        tests: files with tests, folders of them, or "FILE::test"; each test becomes a falsifier.
        root: of the project.
        today: for the head.

    Raises:
        NoTests, TestsElsewhere.
    """
    prefix = prefix_of(name)
    node_ids = [node_id for path in tests for node_id in _node_ids(path, root)]
    if not node_ids:
        raise NoTests(path=" ".join(tests) or "nothing")
    sources = _sources(root)
    parts = [
        _TEST.format(
            prefix=prefix, number=i, node_id=node_id, subjects=_subjects(sources, node_id),
            source=sources[0] if sources else "",
        )
        for i, node_id in enumerate(node_ids, 1)
    ]  # fmt: skip
    return _HEAD.format(prefix=prefix, today=today.isoformat()) + "\n".join(parts)


def prefix_of(name: str) -> str:
    """What the ids of a contract begin with: its name without the version, in plain capitals.

    Args:
        name: of the contract, without .yaml.
    """
    return re.sub(r"[^A-Z0-9]+", "-", re.sub(r"-v\d+$", "", name).upper()).strip("-") or "CLAIM"


def _node_ids(named: str, root: Path) -> Iterator[str]:
    """The tests that a name stands for: all of a file or folder, or the one behind `::`."""
    place, _, only = named.partition("::")
    path = Path(place)
    files = sorted({*path.rglob("test_*.py"), *path.rglob("*_test.py")}) if path.is_dir() else [path]
    for file in files:
        try:
            body = ast.parse(file.read_bytes()).body
        except (SyntaxError, ValueError, OSError):
            continue
        if not file.resolve().is_relative_to(root.resolve()):
            raise TestsElsewhere(path=str(file), root=str(root))
        name = file.resolve().relative_to(root.resolve()).as_posix()
        yield from (
            f"{name}::{test}" for test in _tests(body) if only in ("", test) or test.startswith(f"{only}::")
        )


def _tests(body: list[ast.stmt]) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) and statement.name.startswith(
            "test"
        ):
            yield statement.name
        if isinstance(statement, ast.ClassDef) and statement.name.startswith("Test"):
            yield from (f"{statement.name}::{name}" for name in _tests(statement.body))


def _sources(root: Path) -> list[str]:
    """Python files of the project that are no tests, the package itself before scripts beside it."""
    found = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        hidden = any(
            part.startswith((".", "__pycache__")) or part in ("venv", "build") for part in parts[:-1]
        )
        is_test = any(part in ("test", "tests", "docs") for part in parts) or parts[-1].startswith(
            ("test_", "conftest")
        )
        if not hidden and not is_test and parts[-1] != "setup.py":
            found.append("/".join(parts))
    return sorted(found, key=lambda name: (name.count("/") == 0, name))


def _subjects(sources: list[str], node_id: str) -> str:
    """Globs of the folders of the sources, and the test's own file."""
    folders = dict.fromkeys(name.rpartition("/")[0] for name in sources if "/" in name)
    globs = [f"{folder}/*.py" for folder in folders] or sources
    return ", ".join([*globs[:4], node_id.partition("::")[0]])
