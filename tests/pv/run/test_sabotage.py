"""What must never count as survived."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from pv_project import Trial

WRONG = """

@pytest.mark.skip(reason="not today")
def test_skipped():
    pass


@pytest.mark.xfail
def test_xfail():
    assert side(10) == "neither"


@pytest.mark.xfail
def test_xpass():
    assert side(10) == "val"


@pytest.mark.parametrize("n", [10, pytest.param(20, marks=pytest.mark.skip)])
def test_partly(n):
    assert side(n) == "val"


def test_hangs():
    import subprocess
    import sys
    import time

    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "left-behind-by-pv-test"])
    time.sleep(600)


def test_killed():
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def test_leaves():
    import os

    os._exit(0)


@pytest.fixture
def broken():
    raise OSError("the fixture broke")


def test_setup(broken):
    assert side(10) == "val"


def test_refuted():
    assert side(10) == "train"
"""
_NO_FIGURE = "{measure: [python, -c, 'pass'], op: '<=', value: 5}"
_FIGURE_AND_1 = "{measure: [python, -c, 'print(3); raise SystemExit(1)'], op: '<=', value: 5}"
_NOT_A_NUMBER = "{measure: [python, -c, 'print(float(\"nan\"))'], op: '<=', value: 5}"
_NO_JSON = "{command: [python, -c, 'print(3)'], figure: {json: loss, op: '<=', value: 5}}"


@pytest.fixture
def sabotaged(tmp_path: Path) -> Trial:
    return Trial.at(tmp_path / "project", WRONG)


@pytest.mark.parametrize(
    ("runner", "verdict", "code"),
    [
        ("test_gone", "no answer", 2),
        ("test_skipped", "no answer", 2),
        ("test_xfail", "no answer", 2),
        ("test_xpass", "no answer", 2),
        ("test_partly", "no answer", 2),
        ("test_killed", "no answer", 2),
        ("test_leaves", "no answer", 2),
        ("test_setup", "no answer", 2),
        ("test_refuted", "refuted", 1),
        ("{command: no-such-tool-anywhere --version}", "not run", 2),
        ("{command: [sh, -c, no-such-tool-anywhere]}", "no answer", 2),
        ("{command: [python, -c, 'raise SystemExit(3)']}", "refuted", 1),
        (_NO_FIGURE, "no answer", 2),
        (_FIGURE_AND_1, "no answer", 2),
        (_NOT_A_NUMBER, "no answer", 2),
        (_NO_JSON, "no answer", 2),
        ('{python: "split:gone"}', "no answer", 2),
        ('{python: "split:LIMIT"}', "refuted", 1),
    ],
)
def test_verdict_and_exit_code(sabotaged: Trial, runner: str, verdict: str, code: int) -> None:
    sabotaged.claim("A", runner)
    done = sabotaged.falsify("--no-controls")  # which would expose most of them too
    assert (done.verdict("A"), done.code) == (verdict, code), done.stderr


def test_a_test_that_asserts_nothing_is_exposed_by_its_control(sabotaged: Trial) -> None:
    sabotaged.claim("A", "test_asserts_nothing")
    done = sabotaged.falsify()
    assert (done.verdict("A"), done.code) == ("could not fail", 1)


def test_a_runner_that_hangs_is_killed_with_all_that_it_started(sabotaged: Trial) -> None:
    sabotaged.claim("A", "test_hangs", timeout_s=8)
    start = time.monotonic()
    done = sabotaged.falsify()
    assert (done.verdict("A"), done.code) == ("no answer", 2)
    assert time.monotonic() - start < 60
    assert not [
        p for p in psutil.process_iter(["cmdline"]) if "left-behind-by-pv-test" in (p.info["cmdline"] or [])
    ]


def test_counts_say_what_really_ran(sabotaged: Trial) -> None:
    sabotaged.claim("A", "test_partly")
    counts = sabotaged.falsify().row("A")["counts"]
    assert (counts["selected"], counts["run"], counts["passed"], counts["skipped"]) == (2, 1, 1, 1)


def test_a_filter_that_selects_nothing_is_an_error(trial: Trial) -> None:
    trial.claim("A", "test_side")
    done = trial.falsify("--only", "B")
    assert done.code == 2
    assert "PV302" in done.stderr
    assert trial.evidence("A") == []


def test_options_of_the_shell_select_nothing_here(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "-k nothing_has_this_name")
    trial.claim("A", "test_side")
    assert trial.falsify().verdict("A") == "survived"


def test_one_that_survives_does_not_hide_one_that_does_not(trial: Trial) -> None:
    trial.claim("A", "test_side")
    trial.claim("B", "test_gone")
    done = trial.falsify("-j", "2")
    assert [row["verdict"] for row in done.json["results"]] == ["survived", "no answer"]
    assert done.code == 2


def test_a_file_that_cannot_be_read_is_not_passed_over(trial: Trial) -> None:
    trial.claim("A", "test_side")
    (trial.root / "contracts/broken.yaml").write_text("metadata: [")
    done = trial.falsify()
    assert done.verdict("A") == "survived"
    assert [Path(row["path"]).name for row in done.json["unread"]] == ["broken.yaml"]
    assert done.code == 2


def test_a_second_file_of_a_name_is_not_passed_over(trial: Trial) -> None:
    trial.claim("A", "{command: [python, -c, 'pass']}", None)
    (trial.root / "contracts/more").mkdir()
    (trial.root / "contracts/more/split-v1.yaml").write_text(trial.contract().read_text())
    assert len(trial.falsify("--no-controls").json["unread"]) == 1


def test_tests_that_pass_in_a_session_that_fails_are_no_pass(trial: Trial) -> None:
    (trial.root / "tests/conftest.py").write_text(
        "def pytest_sessionfinish(session):\n    session.exitstatus = 1\n"
    )
    trial.claim("A", "test_side")
    assert trial.falsify().verdict("A") == "no answer"


def test_a_subject_that_changes_while_it_is_tested_gives_no_answer(tmp_path: Path) -> None:
    touch = """

def test_touches():
    from pathlib import Path

    path = Path("src/split/__init__.py")
    path.write_text(path.read_text() + "# touched\\n")
    assert side(10) == "val"
"""
    trial = Trial.at(tmp_path / "project", touch)
    trial.claim("A", "test_touches")
    assert trial.falsify().verdict("A") == "no answer"
