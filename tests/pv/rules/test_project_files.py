"""What contracts say of files and names in the project, judged without running it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pv.rules.project_files import is_relative, matches, missing_of, target_missing

SOURCE = """
import os.path
from json import loads as read
LIMIT: int = 3
a, (b, c) = 1, (2, 3)
if LIMIT:
    def chosen(): ...
else:
    def other(): ...
class Plain:
    field = 1
    def method(self): ...
class Child(Plain): ...
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("src/pkg/mod.py", "tests/test_mod.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(SOURCE)
    (tmp_path / "src/pkg/__init__.py").write_text("")
    (tmp_path / "src/pkg/odd.py").write_text("def broken(:")
    (tmp_path / "src/pkg/late.py").write_text("def __getattr__(name): ...")
    return tmp_path


NAMES = (
    "os",
    "read",
    "LIMIT",
    "a",
    "b",
    "c",
    "chosen",
    "other",
    "Plain",
    "Plain.field",
    "Plain.method",
    "Child.method",
)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_module_has_is_not_missing(root: Path, name: str) -> None:
    assert not target_missing(root, f"pkg.mod:{name}")


@pytest.mark.parametrize(
    "name", ["loads", "path", "limit", "Plain.methods", "Nobody.method", "Plain.field.x"]
)
def test_what_a_module_has_not_is_missing(root: Path, name: str) -> None:
    assert target_missing(root, f"pkg.mod:{name}")


@pytest.mark.parametrize("target", ["pkg.odd:x", "pkg.late:x", "elsewhere:x", "pkg.mod.deeper:x"])
def test_what_cannot_be_said_without_running_it_is_not_said(root: Path, target: str) -> None:
    assert not target_missing(root, target)


@pytest.mark.parametrize("name", ["chosen", "chosen[a::b]", "Plain::method", "Child::test_inherited"])
def test_a_test_that_is_there_or_may_be_inherited(root: Path, name: str) -> None:
    assert missing_of(root, f"tests/test_mod.py::{name}") is None


@pytest.mark.parametrize(
    "node", ["tests/test_mod.py::nobody", "tests/test_mod.py::Plain::nobody", "tests/test_no.py::a"]
)
def test_a_test_that_is_not_there(root: Path, node: str) -> None:
    assert missing_of(root, node) is not None


@pytest.mark.parametrize(
    ("glob", "stays", "found"),
    [("src/**/*.py", True, True), ("src/pkg", True, False), ("*.c", True, False), ("../x", False, None),
     ("/etc/passwd", False, None), ("", False, None), ("**x", True, False)],
)  # fmt: skip
def test_globs_stay_inside_and_match_files(root: Path, glob: str, stays: bool, found: bool | None) -> None:
    assert is_relative(glob) is stays
    if found is not None:
        assert matches(root, glob) is found


@pytest.mark.parametrize(
    ("module", "is_missing"),
    [
        ("pkg.nobody", True),
        ("pkg.mod.sub", False),
        ("pkg.compiled", False),
        ("pkg.folder", False),
        ("other.nobody", False),
    ],
)
def test_a_module_that_its_package_lacks_is_missing(root: Path, module: str, is_missing: bool) -> None:
    (root / "src/pkg/compiled.cpython-311-x86_64-linux-gnu.so").write_text("")
    (root / "src/pkg/folder").mkdir()
    assert target_missing(root, f"{module}:name") is is_missing
