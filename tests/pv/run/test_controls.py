"""A control must make the falsifier fail by its own assertion; one that breaks the runner shows nothing."""

from __future__ import annotations

import os
import subprocess

import pytest

from pv_project import Trial

_EDIT = "{edit: src/split/__init__.py, replace: '%s', by: '%s'}"
_COMMAND = """{command: [python, -c, "import sys; sys.path[:0] = ['src']; import split; %s"]}"""
_SAYS = "sys.exit('WRONG SIDE' if split.side(10) != 'val' else 0)"
_SILENT = "sys.exit(split.side(10) != 'val')"


@pytest.mark.parametrize(
    ("runner", "control"),
    [
        ("test_side", '{patch: "split:side", returns: train}'),
        ("test_side", '{patch: "split:LIMIT", value: 7}'),
        ("test_side", '{patch: "split:side", with: "tests.plants:other"}'),
        ("test_split", '{patch: "split:Split.side", returns: train}'),
        ("test_side", '{patch: "split:side", raises: "builtins:OSError", sees: planted by pv}'),
        ("test_side", _EDIT % ("n % LIMIT == 0", "n % LIMIT == 1")),
        ("test_env", '{env: {SIDE: "broken"}}'),
        (_COMMAND % _SAYS, '{patch: "split:side", returns: train, sees: WRONG}'),
        (_COMMAND % "assert split.side(10) == 'val'", '{patch: "split:side", returns: train}'),
        ('{python: "tests.plants:holds"}', '{patch: "split:side", returns: train}'),
    ],
)  # fmt: skip
def test_caught(trial: Trial, runner: str, control: str) -> None:
    _more_tests(trial)
    trial.claim("A", runner, control)
    done = trial.falsify()
    assert [c["verdict"] for c in done.row("A")["controls"]] == ["caught"], done.row("A")
    assert (done.verdict("A"), done.code) == ("survived", 0)


@pytest.mark.parametrize(
    ("runner", "control"),
    [
        ("test_side", '{patch: "split:side", raises: "builtins:ImportError"}'),  # breaks in the test
        ("test_side", _EDIT % ("class Split", "class Other")),  # breaks at the import: a collection error
        ("test_side", _EDIT % ("LIMIT = 10", "LIMIT = ")),  # breaks by syntax
        ("test_side", _EDIT % ("there is no such text", "x")),
        ("test_side", '{edit: src/gone.py, replace: a, by: b}'),
        ("test_side", _EDIT % ("return", "yield")),  # stands there twice
        ("test_planted", '{patch: "split:side", returns: train}'),  # fails, and never came to the defect
        ("test_side", '{patch: "split:gone", returns: 1}'),
        ("test_side", '{patch: "nobody_imports_this:gone", returns: 1}'),
        ("test_side", '{patch: "split:side", returns: train, sees: another defect}'),
        ("test_env", '{env: {SIDE: "dies"}}'),
        (_COMMAND % _SILENT, '{patch: "split:side", returns: train}'),  # says that it failed, and not why
        (_COMMAND % _SILENT, '{patch: "split:side", raises: "builtins:OSError"}'),
    ],
)  # fmt: skip
def test_broken(trial: Trial, runner: str, control: str) -> None:
    _more_tests(trial)
    trial.claim("A", runner, control)
    done = trial.falsify()
    assert [c["verdict"] for c in done.row("A")["controls"]] == ["broken"], done.row("A")
    assert (done.verdict("A"), done.code) == ("no answer", 2)


def test_every_control_of_a_list_must_be_caught(trial: Trial) -> None:
    trial.claim(
        "A",
        "test_split",
        '[{patch: "split:Split.side", returns: train}, {patch: "split:LIMIT", value: 5}]',
    )
    done = trial.falsify()
    assert [c["verdict"] for c in done.row("A")["controls"]] == ["caught", "missed"]
    assert (done.verdict("A"), done.code) == ("could not fail", 1)


def test_a_defect_is_planted_in_processes_that_the_test_starts(trial: Trial) -> None:
    _more_tests(trial)
    trial.claim("A", "test_in_a_process")
    assert trial.falsify().verdict("A") == "survived"


def test_without_a_control_nothing_is_known(trial: Trial) -> None:
    trial.claim("A", "test_side", control=None)
    done = trial.falsify()
    assert (done.verdict("A"), done.code) == ("no answer", 2)


def test_no_controls_runs_none(trial: Trial) -> None:
    trial.claim("A", "test_asserts_nothing")
    done = trial.falsify("--no-controls")
    assert (done.verdict("A"), done.row("A")["controls"], done.code) == ("survived", [], 0)


def test_an_edit_leaves_the_project_as_it_was(trial: Trial) -> None:
    before = (trial.root / "src/split/__init__.py").read_bytes()
    trial.claim("A", "test_side", _EDIT % ("n % LIMIT == 0", "n % LIMIT == 1"))
    assert trial.falsify().verdict("A") == "survived"
    assert (trial.root / "src/split/__init__.py").read_bytes() == before


def test_a_program_that_imports_the_original_shows_nothing(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.change("pyproject.toml", '["src"]', f'["{trial.root}/src"]')
    trial.claim("A", "test_side", _EDIT % ("n % LIMIT == 0", "n % LIMIT == 1"))
    assert [c["verdict"] for c in trial.falsify().row("A")["controls"]] == ["broken"]


def test_a_copy_of_a_git_project_holds_what_git_knows(trial: Trial) -> None:
    subprocess.run(
        ["git", "init", "-q"],
        cwd=trial.root,
        check=True,
        env={**os.environ, "GIT_DIR": str(trial.root / ".git")},
    )
    (trial.root / ".gitignore").write_text("large\n")
    (trial.root / "large").write_text("x")
    _more_tests(trial)
    trial.claim(
        "A",
        "test_large_is_left_out",
        '{edit: src/split/__init__.py, replace: "n % LIMIT == 0", by: "n % LIMIT == 1"}',
    )
    assert trial.falsify().verdict("A") == "survived"


def _more_tests(trial: Trial) -> None:
    (trial.root / "tests/plants.py").write_text(
        "from split import side\n\n\n"
        "def other(original):\n    return lambda n: 'val' if original(n) == 'train' else 'train'\n\n\n"
        "def holds():\n    assert side(10) == 'val'\n"
    )
    path = trial.root / "tests/test_split.py"
    path.write_text(path.read_text() + _MORE)


_MORE = """

def test_env():
    import os

    if os.environ.get("SIDE") == "dies":
        os._exit(1)
    assert os.environ.get("SIDE") != "broken"


def test_planted():
    import os

    assert "PV_PLANT" not in os.environ


def test_in_a_process():
    import subprocess
    import sys

    code = "import sys; sys.path[:0] = ['src']; import split; print(split.side(10))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "val\\n"


def test_large_is_left_out():
    from pathlib import Path

    if "pv-copy-" in str(Path.cwd()):
        assert Path("large").exists(), "the copy has no ignored files"
    assert side(10) == "val"
"""
