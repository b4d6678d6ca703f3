"""Bounded proofs: what was shown is named, and a bound that is not met shows nothing."""

from __future__ import annotations

import pytest

from pv_project import Trial

PROOFS = """\
from hypothesis import assume, given
from hypothesis import strategies as st

from split import side


def cases():
    return range(100)


def twice():
    return [*range(50), *range(50)]


def endless():
    n = 0
    while True:
        yield n
        n += 1


def has_a_side(n):
    assert side(n) in ("val", "train")


def is_not_57(n):
    return n != 57


def breaks_at_99(n):
    return 1 // (99 - n) >= 0


def says_nothing(n):
    return "yes"


@given(st.integers())
def every(n):
    assert side(n) in ("val", "train")


@given(st.integers())
def is_small(n):
    assert n < 1000


@given(st.integers())
def sets_all_aside(n):
    assume(False)


@given(st.integers())
def sets_half_aside(n):
    assume(n % 2 == 0)


def no_given(n):
    pass
"""


@pytest.fixture
def proving(trial: Trial) -> Trial:
    (trial.root / "src/split/proofs.py").write_text(PROOFS)
    return trial


def _exhaustive(check: str, domain: str, size: int) -> str:
    return f'{{exhaustive: "split.proofs:{check}", domain: "split.proofs:{domain}", size: {size}}}'


@pytest.mark.parametrize(
    ("runner", "verdict", "grade", "code"),
    [
        (_exhaustive("has_a_side", "cases", 100), "survived", "exhausted", 0),
        (_exhaustive("has_a_side", "cases", 101), "no answer", None, 2),
        (_exhaustive("has_a_side", "cases", 99), "no answer", None, 2),
        (_exhaustive("has_a_side", "endless", 1000), "no answer", None, 2),
        (_exhaustive("has_a_side", "twice", 100), "no answer", None, 2),
        (_exhaustive("is_not_57", "cases", 100), "refuted", None, 1),
        (_exhaustive("breaks_at_99", "cases", 100), "refuted", None, 1),
        (_exhaustive("says_nothing", "cases", 100), "no answer", None, 2),
        (_exhaustive("gone", "cases", 100), "no answer", None, 2),
        ('{hypothesis: "split.proofs:every", examples: 40, seed: 7}', "survived", "sampled", 0),
        ('{hypothesis: "split.proofs:is_small", examples: 200, seed: 7}', "refuted", None, 1),
        ('{hypothesis: "split.proofs:sets_all_aside", examples: 20, seed: 7}', "no answer", None, 2),
        ('{hypothesis: "split.proofs:no_given", examples: 20, seed: 7}', "no answer", None, 2),
        ('{crosshair: "split.proofs:has_a_side"}', "not run", None, 2),
    ],
)
def test_verdict_grade_and_exit_code(
    proving: Trial, runner: str, verdict: str, grade: str | None, code: int
) -> None:
    proving.proof("A", runner)
    done = proving.prove()
    assert (done.verdict("A"), done.row("A")["grade"], done.code) == (verdict, grade, code), done.row("A")


def test_the_cases_are_counted(proving: Trial) -> None:
    proving.proof("A", _exhaustive("has_a_side", "cases", 100))
    assert "all 100 cases" in proving.prove().row("A")["why"]


def test_examples_that_are_set_aside_do_not_count(proving: Trial) -> None:
    proving.proof("A", '{hypothesis: "split.proofs:sets_half_aside", examples: 40, seed: 7}')
    assert "among 40 examples" in proving.prove().row("A")["why"]


def test_a_counterexample_is_named(proving: Trial) -> None:
    proving.proof("A", _exhaustive("is_not_57", "cases", 100))
    assert "57" in proving.prove().row("A")["why"]


def test_a_control_that_a_proof_survives_exposes_it(proving: Trial) -> None:
    proving.proof("A", _exhaustive("has_a_side", "cases", 100), '{patch: "split:side", returns: val}')
    proving.proof("B", _exhaustive("has_a_side", "cases", 100), '{patch: "split:side", returns: neither}')
    done = proving.prove()
    assert (done.verdict("A"), done.verdict("B"), done.code) == ("could not fail", "survived", 1)


def test_tests_and_proofs_are_run_by_commands_of_their_own(proving: Trial) -> None:
    proving.proof("A", _exhaustive("has_a_side", "cases", 100))
    done = proving.falsify()
    assert (done.code, "PV303" in done.stderr) == (2, True)


def test_status_shows_the_grade(proving: Trial) -> None:
    proving.proof("A", '{hypothesis: "split.proofs:every", examples: 40, seed: 7}')
    proving.prove()
    (claim,) = proving.status().json["contracts"][0]["claims"]
    assert (claim["state"], claim["grade"]) == ("survived", "sampled")


FAKE_CROSSHAIR = """\
import sys

target = sys.argv[-1].rpartition(".")[2]
said = {
    "all": "info: Confirmed over all paths.",
    "breaks": "info: Confirmed over all paths.",
    "some": "info: Not confirmed.",
    "wrong": "error: false when calling wrong(57) (which returns 57)",
}
if target in said:
    print(f"src/split/proofs.py:1: {said[target]}")
sys.exit(target in ("wrong", "gone", "breaks"))
"""


@pytest.mark.parametrize(
    ("target", "verdict", "grade", "code"),
    [
        ("all", "survived", "confirmed over all paths", 0),
        ("some", "no answer", "not confirmed in time", 2),
        ("wrong", "refuted", None, 1),
        ("nothing", "no answer", None, 2),
        ("breaks", "no answer", None, 2),
        ("gone", "no answer", None, 2),  # exit code 1 without a counterexample: it crashed
    ],
)
def test_what_crosshair_says(
    proving: Trial, monkeypatch: pytest.MonkeyPatch, target: str, verdict: str, grade: str | None, code: int
) -> None:
    fake = proving.root.parent / "fake"
    (fake / "crosshair_tool-1.0.dist-info").mkdir(parents=True)
    (fake / "crosshair_tool-1.0.dist-info/METADATA").write_text("Name: crosshair-tool\nVersion: 1.0\n")
    (fake / "crosshair.py").write_text(FAKE_CROSSHAIR)
    monkeypatch.setenv("PYTHONPATH", str(fake))
    proving.proof("A", f'{{crosshair: "split.proofs:{target}"}}')
    done = proving.prove()
    assert (done.verdict("A"), done.row("A")["grade"], done.code) == (verdict, grade, code), done.row("A")


def test_a_proof_may_stand_among_the_tests(trial: Trial) -> None:
    (trial.root / "tests" / "beside.py").write_text(PROOFS)
    trial.proof("SPLIT-PRF-1", "{exhaustive: 'beside:has_a_side', domain: 'beside:cases', size: 100}")
    assert trial.prove("--no-controls").row("SPLIT-PRF-1")["verdict"] == "survived"
