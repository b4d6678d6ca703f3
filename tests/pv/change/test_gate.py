"""What may not pass, and what must."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pv_project import Outcome, Trial, pv

FAST = "{command: [python, -c, \"import os; assert os.environ.get('SIDE') != 'broken'\"]}"
BREAKS = "{env: {SIDE: broken}}"
CONTRACT = "contracts/split-v1.yaml"


def _git(root: Path, *arguments: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "core.hooksPath=/dev/null"]
    subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture
def based(trial: Trial) -> Trial:
    """A project with a contract on its main line, all of it fresh."""
    trial.claim("SPLIT-FAL-1", FAST, BREAKS, live="true")
    trial.claim(
        "SPLIT-FAL-2", FAST, BREAKS, pending="{owner: me, reason: r, needs: [network], expires: 2090-01-01}"
    )
    trial.claim("SPLIT-FAL-3", FAST, BREAKS)
    trial.proof("SPLIT-PRF-1", "{exhaustive: 'proofs:check', domain: 'proofs:cases', size: 3}")
    path = trial.contract()
    path.write_text(path.read_text().replace("runner: {exhaustive", "bound: 3, runner: {exhaustive"))
    (trial.root / "proofs.py").write_text(
        "def check(n):\n    return n < 3\n\n\ndef cases():\n    return range(3)\n"
    )
    (trial.root / ".gitignore").write_text("evidence\n__pycache__\n")
    _git(trial.root, "init", "-q", "-b", "main")
    _git(trial.root, "add", "-A")
    _git(trial.root, "commit", "-q", "-m", "base")
    _run(trial)
    return trial


def _run(trial: Trial) -> None:
    assert trial.falsify("--live").code == 0
    assert trial.prove().code == 0


def _gate(trial: Trial, *arguments: str) -> Outcome:
    return pv("gate", trial.root / "contracts", "--base", "main", "--format", "json", *arguments)


def _version(trial: Trial, version: str) -> None:
    trial.change(CONTRACT, 'version: "1.0.0"', f'version: "{version}"')


def test_open_when_nothing_changed(based: Trial) -> None:
    done = _gate(based)
    assert (done.code, done.json["blocked"]) == (0, [])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tolerance: 0.5", "tolerance: 0.6"),
        ("prediction: p\n    if_fails: f\n    refutes: [SPLIT-V1-OBL]\n    runner: {command: [python, -c, \"import os; "
         "assert os.environ.get('SIDE') != 'broken'\"]}\n    subjects: [src/split/*.py]\n    live: true",
         "prediction: p of 3\n    if_fails: f\n    refutes: [SPLIT-V1-OBL]\n    runner: {command: [python, -c, "
         "\"import os; assert os.environ.get('SIDE') != 'broken'\"]}\n    subjects: [src/split/*.py]\n    live: true"),
        ("    live: true\n", ""),
        ("expires: 2090-01-01", "expires: 2091-01-01"),
        ("bound: 3", "bound: 2"),
        ("size: 3", "size: 2"),
    ],
    ids=["tolerance", "prediction", "live", "pending", "bound", "size"],
)  # fmt: skip
def test_closed_before_a_weaker_claim(based: Trial, old: str, new: str) -> None:
    based.change(CONTRACT, old, new)
    _version(based, "2.0.0")
    done = _gate(based)
    assert done.code == 1
    assert any("without a waiver" in said for said in done.json["blocked"])


def test_closed_before_a_test_that_was_removed(based: Trial) -> None:
    text = based.contract().read_text()
    start, end = text.index("  - id: SPLIT-FAL-3"), text.index("bounded_proofs:")
    based.contract().write_text(text[:start] + text[end:])
    _version(based, "2.0.0")
    done = _gate(based)
    assert (done.code, "SPLIT-FAL-3 was removed" in done.json["blocked"][0]) == (1, True)


def test_closed_before_a_control_that_was_removed(based: Trial) -> None:
    text = based.contract().read_text()
    based.contract().write_text(text[::-1].replace(f"    control: {BREAKS}\n"[::-1], "", 1)[::-1])
    _version(based, "2.0.0")
    done = _gate(based)
    assert done.code == 1
    assert any("controls without" in said and "waiver" in said for said in done.json["blocked"])


def test_closed_before_a_contract_that_was_removed(based: Trial) -> None:
    based.head("other-v1")
    based.claim("OTHER-FAL-1", FAST, BREAKS, stem="other-v1")
    based.contract().unlink()
    done = _gate(based)
    assert (done.code, done.json["blocked"][0].startswith("split-v1/contract was removed")) == (1, True)


def test_open_for_formatting_and_comments(based: Trial) -> None:
    based.change(CONTRACT, "tolerance: 0.5", "tolerance:   0.50   # half")
    assert _gate(based).code == 0


def test_open_for_a_stronger_bound_when_it_was_run(based: Trial) -> None:
    based.change(CONTRACT, "tolerance: 0.5", "tolerance: 0.4")
    _version(based, "1.1.0")
    assert _gate(based).code == 1  # touched, and not run since
    _run(based)
    done = _gate(based)
    assert (done.code, done.json["blocked"]) == (0, [])


def test_open_for_a_new_test_that_has_survived(based: Trial) -> None:
    _version(based, "1.1.0")
    text = based.contract().read_text()
    new = text[text.index("  - id: SPLIT-FAL-3") : text.index("bounded_proofs:")].replace("FAL-3", "FAL-4")
    based.contract().write_text(text.replace("bounded_proofs:", new + "bounded_proofs:"))
    assert _gate(based).code == 1
    _run(based)
    assert _gate(based).code == 0


def test_closed_when_the_version_does_not_follow(based: Trial) -> None:
    based.change(CONTRACT, "tolerance: 0.5", "tolerance: 0.4")
    _run(based)
    done = _gate(based)
    assert (done.code, "1.1.0" in done.json["blocked"][0]) == (1, True)


def test_a_waiver_opens_it_for_one_change_and_no_other(based: Trial) -> None:
    waiver = (
        "waivers:\n  - {contract: split-v1, claim: SPLIT-V1-OBL, change: 'tolerance: 0.5 -> 0.6', "
        "reason: another float format, owner: me}\n"
    )
    (based.root / "contracts/waivers.yaml").write_text(waiver)
    based.change(CONTRACT, "tolerance: 0.5", "tolerance: 0.6")
    _version(based, "2.0.0")
    _run(based)
    done = _gate(based)
    assert (done.code, [c["waived_by"] for c in done.json["changes"]]) == (0, ["me"])
    based.change(CONTRACT, "tolerance: 0.6", "tolerance: 0.7")
    _run(based)
    assert _gate(based).code == 1


def test_a_waiver_without_an_owner_is_refused(based: Trial) -> None:
    (based.root / "contracts/waivers.yaml").write_text(
        "waivers: [{contract: a, claim: b, change: c, reason: d}]\n"
    )
    done = _gate(based)
    assert (done.code, "PV403" in done.stderr) == (1, True)


def test_what_a_change_of_the_program_touches_must_be_fresh(based: Trial) -> None:
    based.change("src/split/__init__.py", "LIMIT = 10", "LIMIT = 11")
    done = _gate(based)
    assert done.code == 1
    assert all("is touched (src/split/__init__.py)" in said for said in done.json["blocked"])
    assert not any("SPLIT-FAL-1" in said for said in done.json["blocked"])  # it is live
    assert any("SPLIT-FAL-1" in said for said in _gate(based, "--live").json["blocked"])
    _run(based)
    assert _gate(based, "--live").code == 0


@pytest.mark.parametrize("ref", ["no-such-branch", "--output=x"])
def test_a_base_that_git_does_not_know_is_no_answer(based: Trial, ref: str) -> None:
    done = pv("gate", based.root / "contracts", f"--base={ref}")
    assert (done.code, "PV401" in done.stderr) == (2, True)
