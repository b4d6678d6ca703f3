"""Status is what the evidence bears, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pv_project import Outcome, Trial, pv

FAST = "{command: [python, -c, \"import os; assert os.environ.get('SIDE') != 'broken'\"]}"
BREAKS = "{env: {SIDE: broken}}"


def _contract(done: Outcome, stem: str = "split-v1") -> dict[str, Any]:
    return next(c for c in done.json["contracts"] if c["contract"] == stem)


def _state(done: Outcome, claim: str) -> str:
    return next(
        c["state"] for contract in done.json["contracts"] for c in contract["claims"] if c["id"] == claim
    )


@pytest.fixture
def survived(trial: Trial) -> Trial:
    """One claim that needs nothing live, and has survived."""
    trial.claim("SPLIT-FAL-1", FAST, BREAKS)
    assert trial.falsify().code == 0
    return trial


def test_proposed_until_something_was_run(trial: Trial) -> None:
    trial.claim("SPLIT-FAL-1", FAST, BREAKS)
    done = trial.status()
    assert (_contract(done)["status"], _state(done, "SPLIT-FAL-1"), done.code) == ("PROPOSED", "never run", 0)


def test_every_status_in_turn(trial: Trial) -> None:
    trial.claim("SPLIT-FAL-1", FAST, BREAKS, level="part")
    trial.claim("SPLIT-FAL-2", FAST, BREAKS)
    trial.claim("SPLIT-FAL-3", FAST, BREAKS, live="true")
    seen = []
    for options in (["--only", "SPLIT-FAL-1"], [], ["--live"]):
        trial.falsify(*options)
        seen.append(_contract(trial.status())["status"])
    assert seen == ["PARTIAL_ALGORITHM_LEVEL", "FUNCTIONAL", "DISCHARGED"]


def test_only_what_is_not_settled_is_run_again(survived: Trial) -> None:
    survived.claim("SPLIT-FAL-2", FAST, BREAKS)
    chosen = survived.falsify("--stale")
    assert ([row["id"] for row in chosen.json["results"]], chosen.code) == (["SPLIT-FAL-2"], 0)
    nothing = survived.falsify("--stale")
    assert (nothing.json["results"], nothing.code) == ([], 0)
    survived.change("src/split/__init__.py", "LIMIT = 10", "LIMIT = 20")
    assert len(survived.falsify("--stale").json["results"]) == 2


def test_without_a_live_falsifier_nothing_is_discharged(survived: Trial) -> None:
    held = _contract(survived.status())
    assert held["status"] == "FUNCTIONAL"
    assert held["why_not_higher"] == ["DISCHARGED needs a live falsifier, and it has none"]


def test_a_reason_that_claims_share_is_told_once(trial: Trial) -> None:
    for number in (1, 2, 3):
        trial.claim(f"SPLIT-FAL-{number}", FAST, BREAKS)
    assert _contract(trial.status())["why_not_higher"] == ["SPLIT-FAL-1 was never run, and 2 more likewise"]


def test_a_proof_that_was_not_run_keeps_a_contract_from_functional(survived: Trial) -> None:
    survived.proof("SPLIT-PRF-1", "{exhaustive: 'split:side', domain: 'split:side', size: 1}")
    survived.falsify()
    held = _contract(survived.status())
    assert (held["status"], held["why_not_higher"]) == (
        "PARTIAL_ALGORITHM_LEVEL",
        ["SPLIT-PRF-1 was never run"],
    )


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("src/split/__init__.py", "LIMIT = 10", "LIMIT = 11"),
        ("contracts/split-v1.yaml", "prediction: p", "prediction: q"),
        ("contracts/split-v1.yaml", "tolerance: 0.5", "tolerance: 0.6"),
        ("contracts/split-v1.yaml", "property: no document", "property: one document"),
        ("contracts/split-v1.yaml", "SIDE: broken", "SIDE: other"),
    ],
)  # fmt: skip
def test_what_a_claim_speaks_about_makes_it_stale(survived: Trial, path: str, old: str, new: str) -> None:
    survived.change(path, old, new)
    done = survived.status()
    assert (_contract(done)["status"], _state(done, "SPLIT-FAL-1")) == ("PROPOSED", "stale")
    survived.change(path, new, old)
    assert _contract(survived.status())["status"] == "FUNCTIONAL"


def test_a_new_file_that_a_subject_matches_makes_it_stale(survived: Trial) -> None:
    (survived.root / "src/split/more.py").write_text("")
    assert _state(survived.status(), "SPLIT-FAL-1") == "stale"


def test_anything_else_leaves_it_fresh(survived: Trial) -> None:
    (survived.root / "README.md").write_text("touched")
    contract = survived.contract()
    text = (
        contract.read_text().replace("rule: r", 'rule:   "r"   # why').replace("refutes: [", "refutes:  [ ")
    )
    contract.write_text("# a comment\n" + text.replace("    subjects:", "    timeout_s: 77\n    subjects:"))
    assert _contract(survived.status())["status"] == "FUNCTIONAL"


def test_what_python_caches_is_no_subject(trial: Trial) -> None:
    trial.claim("SPLIT-FAL-1", FAST, BREAKS, subjects='["src/**/*"]')
    assert trial.falsify().code == 0
    (trial.root / "src/split/__pycache__").mkdir()
    (trial.root / "src/split/__pycache__/x.cpython-311.pyc").write_text("")
    assert _state(trial.status(), "SPLIT-FAL-1") == "survived"
    (trial.root / "src/split/data.txt").write_text("")
    assert _state(trial.status(), "SPLIT-FAL-1") == "stale"


def test_the_source_of_the_runner_is_a_subject(trial: Trial) -> None:
    (trial.root / "tests/check.py").write_text("import os\nassert os.environ.get('SIDE') != 'broken'\n")
    trial.claim("SPLIT-FAL-1", "{command: [python, tests/check.py]}", BREAKS)
    assert trial.falsify().code == 0
    (trial.root / "tests/check.py").write_text("")
    assert _state(trial.status(), "SPLIT-FAL-1") == "stale"


def test_the_test_file_and_its_conftest_are_subjects(trial: Trial) -> None:
    (trial.root / "tests/conftest.py").write_text("")
    trial.claim("SPLIT-FAL-1", "test_side")
    assert trial.falsify().code == 0
    assert _state(trial.status(), "SPLIT-FAL-1") == "survived"
    (trial.root / "tests/conftest.py").write_text("import pytest\n")
    assert _state(trial.status(), "SPLIT-FAL-1") == "stale"


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [("FUNCTIONAL", 0, None), ("PROPOSED", 0, None), ("DISCHARGED", 1, "declares DISCHARGED")],
)
def test_a_declared_status_above_the_computed_one_is_an_error(
    survived: Trial, words: str, code: int, problem: str | None
) -> None:
    survived.head(status=words)
    survived.write()
    done = survived.status()
    assert done.code == code
    assert any(problem in said for said in done.json["problems"]) if problem else done.json["problems"] == []


def test_a_parent_is_never_stronger_than_what_it_depends_on(survived: Trial) -> None:
    survived.head("parent-v1", depends_on="middle-v1")
    survived.head("middle-v1", depends_on="split-v1")
    survived.claim("PARENT-FAL-1", FAST, BREAKS, stem="parent-v1")
    survived.claim("MIDDLE-FAL-1", FAST, BREAKS, stem="middle-v1")
    survived.falsify()
    assert _contract(survived.status(), "parent-v1")["status"] == "FUNCTIONAL"
    survived.change("contracts/split-v1.yaml", "prediction: p", "prediction: q")
    held = _contract(survived.status(), "parent-v1")
    assert (held["status"], held["own_status"]) == ("PROPOSED", "FUNCTIONAL")
    assert held["why_not_higher"][0] == "it depends on middle-v1, which is PROPOSED"


def test_a_circle_bears_nothing_up_and_ends(survived: Trial) -> None:
    survived.head("split-v1", depends_on="other-v1")
    survived.head("other-v1", depends_on="split-v1")
    survived.claim("OTHER-FAL-1", FAST, BREAKS, stem="other-v1")
    assert _contract(survived.status())["status"] == "INVALID"


def test_refuted_is_below_everything(survived: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDE", "broken")
    assert survived.falsify().code == 1
    done = survived.status()
    assert (_contract(done)["status"], done.code) == ("REFUTED", 1)


def test_one_that_survives_after_it_was_refuted_on_the_same_bytes_says_so(
    survived: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIDE", "broken")
    survived.falsify()
    monkeypatch.delenv("SIDE")
    survived.falsify()
    claim = _contract(survived.status())["claims"][0]
    assert (claim["state"], claim["runs"]) == ("survived", 3)
    assert claim["refuted_before"] is not None


def test_a_run_without_controls_bears_nothing_and_takes_nothing_away(trial: Trial) -> None:
    trial.claim("SPLIT-FAL-1", FAST, BREAKS)
    trial.falsify("--no-controls")
    assert _state(trial.status(), "SPLIT-FAL-1") == "uncontrolled"
    trial.falsify()
    trial.falsify("--no-controls")
    assert _state(trial.status(), "SPLIT-FAL-1") == "survived"


@pytest.mark.parametrize("how", ["edited", "deleted", "copied"])
def test_evidence_that_was_touched_is_a_problem_and_bears_nothing(survived: Trial, how: str) -> None:
    (path,) = survived.evidence("SPLIT-FAL-1")
    if how == "edited":
        path.write_bytes(path.read_bytes().replace(b"PASSED", b"PASSEE"))
    if how == "deleted":
        path.unlink()
    if how == "copied":
        survived.claim("OTHER-FAL-1", FAST, BREAKS, stem="other-v1")
        shutil.copytree(path.parent, survived.root / "evidence/other-v1/OTHER-FAL-1")
    done = survived.status()
    claim = "OTHER-FAL-1" if how == "copied" else "SPLIT-FAL-1"
    assert (len(done.json["damage"]), _state(done, claim), done.code) == (1, "never run", 1)


def test_milestones_are_counted_with_their_denominator(survived: Trial) -> None:
    survived.claim("SPLIT-FAL-2", FAST, BREAKS)
    (survived.root / "contracts/milestones.yaml").write_text(
        "milestones:\n  - id: release-1\n    title: first\n"
        "    claims: [SPLIT-FAL-1, SPLIT-FAL-2, SPLIT-V1-OBL, 'split-v1: PARTIAL_ALGORITHM_LEVEL', NO-SUCH-1]\n"
    )
    done = survived.status()
    (milestone,) = done.json["milestones"]
    assert (milestone["survived"], milestone["of"]) == (2, 5)
    assert milestone["open"] == ["SPLIT-FAL-2", "SPLIT-V1-OBL"]
    assert (milestone["unknown"], done.code) == (["NO-SUCH-1"], 1)


def test_a_milestone_without_claims_is_a_problem(survived: Trial) -> None:
    (survived.root / "contracts/milestones.yaml").write_text("milestones: [{id: release-1, claims: []}]\n")
    assert survived.status().code == 1


def test_a_file_alone_is_held_against_what_lies_beside_it(survived: Trial) -> None:
    survived.head("parent-v1", depends_on="split-v1")
    survived.claim("PARENT-FAL-1", FAST, BREAKS, stem="parent-v1")
    survived.falsify()
    done = pv("status", survived.contract("parent-v1"), "--format", "json")
    assert [c["status"] for c in done.json["contracts"]] == ["FUNCTIONAL"]


def test_the_page_is_one_file_and_says_everything(survived: Trial) -> None:
    survived.change("contracts/split-v1.yaml", "description: The", "description: <The> ")
    page = pv("status", survived.root / "contracts", "--format", "html").stdout
    assert "SPLIT-FAL-1" in page
    assert "&lt;The&gt;" in page
    assert not any(word in page for word in ("<script", "http://", "https://", "src=", "<link"))
    table = pv("status", survived.root / "contracts").stdout
    assert "1 of 1 claims of 1 contract(s) have survived" in table
    assert (
        "| SPLIT-FAL-1 | test | survived |"
        in pv("status", survived.root / "contracts", "--format", "md").stdout
    )


def test_every_format_exits_alike(survived: Trial) -> None:
    survived.head(status="DISCHARGED")
    survived.write()
    codes = [
        pv("status", survived.root / "contracts", "--format", f).code for f in ("table", "json", "md", "html")
    ]
    assert codes == [1, 1, 1, 1]


@pytest.mark.parametrize("name", [".hidden.yaml", "contract.txt", "milestones.yaml"])
def test_nothing_to_judge_is_no_yes(trial: Trial, name: str) -> None:
    trial.claim("A", FAST, BREAKS)
    path = trial.root / "contracts" / name
    path.write_text("milestones: []\n" if name == "milestones.yaml" else trial.contract().read_text())
    done = pv("status", path)
    assert (done.code, "PV103" in done.stderr) == (2, True)


def test_a_folder_of_milestones_alone_is_no_yes(tmp_path: Path) -> None:
    (tmp_path / "milestones.yaml").write_text("milestones: []\n")
    assert pv("status", tmp_path).code == 2
