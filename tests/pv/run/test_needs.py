"""What cannot be run now says so, with its reason; only pending, with an owner and a day, may stay unrun."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pv_project import Trial

FAST = "{command: [python, -c, \"import os; assert os.environ.get('SIDE') != 'broken'\"]}"
BREAKS = "{env: {SIDE: broken}}"
LATER = "{owner: me, reason: no such machine, needs: [%s], expires: %s}"


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pv.run.needs.devices", lambda: ())
    monkeypatch.delenv("PV_HAVE", raising=False)


@pytest.mark.parametrize(
    ("needs", "options", "verdict"),
    [
        ("gpu", [], "not run"),
        ("gpu", ["--have", "gpu"], "survived"),
        ("network", [], "not run"),
        ("network", ["--have", "network"], "survived"),
        ("model:tiny", [], "not run"),
        ("model:src", [], "survived"),  # it lies in the project
        ("model:tiny", ["--have", "model:tiny"], "survived"),
        ("tool:no-such-tool-anywhere", [], "not run"),
        ("tool:sh", [], "survived"),
        ("minutes:9", [], "survived"),
        ("minutes:11", [], "not run"),
        ("minutes:11", ["--minutes", "20"], "survived"),
        ("minutes:11", ["--live"], "survived"),
        ("gpu, network", ["--have", "gpu"], "not run"),
    ],
)
def test_needs(trial: Trial, needs: str, options: list[str], verdict: str) -> None:
    trial.claim("A", FAST, BREAKS, needs=f"[{needs}]")
    done = trial.falsify(*options)
    assert (done.verdict("A"), done.code) == (verdict, 0 if verdict == "survived" else 2), done.row("A")


def test_what_is_said_to_be_here_may_be_said_once_for_all(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PV_HAVE", "network gpu")
    trial.claim("A", FAST, BREAKS, needs="[gpu, network]")
    assert trial.falsify().verdict("A") == "survived"


def test_a_gpu_that_the_driver_lists_is_found(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pv.run.needs.devices", lambda: ("a GPU",))
    trial.claim("A", FAST, BREAKS, needs="[gpu]")
    assert trial.falsify().verdict("A") == "survived"


def test_one_that_is_not_run_leaves_no_evidence(trial: Trial) -> None:
    trial.claim("A", FAST, BREAKS, needs="[gpu]")
    trial.falsify()
    assert not (trial.root / "evidence").exists()


def test_a_live_one_is_left_out_and_counted(trial: Trial) -> None:
    trial.claim("A", FAST, BREAKS)
    trial.claim("B", FAST, BREAKS, live="true")
    done = trial.falsify()
    assert ([row["id"] for row in done.json["results"]], done.json["live_left_out"]) == (["A"], 1)
    assert done.code == 0
    assert [row["id"] for row in trial.falsify("--live").json["results"]] == ["A", "B"]


def test_live_ones_alone_are_nothing_without_the_option(trial: Trial) -> None:
    trial.claim("B", FAST, BREAKS, live="true")
    done = trial.falsify()
    assert (done.code, "PV302" in done.stderr) == (2, True)


def test_pending_does_not_fail_others_and_passes_nothing(trial: Trial) -> None:
    trial.claim("A", FAST, BREAKS, pending=LATER % ("gpu", "2090-01-01"))
    done = trial.falsify()
    assert (done.verdict("A"), done.row("A")["pending"], done.code) == ("not run", True, 2)
    trial.claim("B", FAST, BREAKS)
    assert trial.falsify().code == 0


@pytest.mark.parametrize(
    "pending",
    [
        LATER % ("gpu", "2020-01-01"),
        LATER % ("gpu", "some day"),
        "{owner: me, needs: [gpu], expires: 2090-01-01}",
        "{reason: r, needs: [gpu], expires: 2090-01-01}",
    ],
)
def test_pending_past_its_day_or_without_an_owner_is_an_error(trial: Trial, pending: str) -> None:
    trial.claim("A", FAST, BREAKS, pending=pending)
    trial.claim("B", FAST, BREAKS)
    done = trial.falsify()
    assert (done.verdict("A"), done.row("A")["pending"], done.code) == ("not run", False, 1)


def test_pending_ends_when_what_it_waits_for_is_here(trial: Trial) -> None:
    trial.claim("A", FAST, BREAKS, pending=LATER % ("tool:sh", "2090-01-01"))
    assert trial.falsify().verdict("A") == "survived"


def test_a_pattern_selects(trial: Trial) -> None:
    for name in ("A-1", "A-2", "B-1"):
        trial.claim(name, FAST, BREAKS)
    done = trial.falsify("--only", "A-*", "--only", "B-1")
    assert [row["id"] for row in done.json["results"]] == ["A-1", "A-2", "B-1"]
    assert [row["id"] for row in trial.falsify("--only", "A-*").json["results"]] == ["A-1", "A-2"]


def test_several_at_a_time_come_in_their_order(trial: Trial) -> None:
    for i in range(6):
        trial.claim(f"A-{i}", FAST, BREAKS)
    done = trial.falsify("-j", "4")
    assert [row["id"] for row in done.json["results"]] == [f"A-{i}" for i in range(6)]
    assert done.code == 0


def test_what_measures_is_run_alone(trial: Trial) -> None:
    code = (
        "import os, pathlib, time; p = pathlib.Path('running'); p.mkdir(exist_ok=True); "
        "f = p / str(os.getpid()); f.touch(); time.sleep(0.3); print(len(list(p.iterdir()))); f.unlink()"
    )
    for i in range(3):
        runner = f'{{measure: [python, -c, "{code}"], op: "<=", value: 1, unit: programs}}'
        trial.claim(f"A-{i}", runner, None)
    done = trial.falsify("-j", "3", "--no-controls")
    assert [row["figure"] for row in done.json["results"]] == [1, 1, 1]


def test_the_interpreter_of_the_project_can_be_named(trial: Trial, tmp_path: Path) -> None:
    trial.claim("A", "test_side")
    done = trial.falsify("--python", tmp_path / "no-python")
    assert (done.code, "PV301" in done.stderr) == (2, True)
    (tmp_path / "python").symlink_to(sys.executable)
    assert trial.falsify("--python", tmp_path / "python").code != 3
