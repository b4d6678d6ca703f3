"""pv infer: a skeleton to be reviewed, which pv falsify then runs; and judging a run by a claim."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pv_project import Trial, pv

N = 30


def log(trial: Trial, name: str = "run", **changed: object) -> Path:
    """A healthy run in the project, or one whose last line is another."""
    lines = [
        {"step": i, "train_loss": 5 - i / 10, "lr": None if i % 2 else 1e-4, "tokens": 64 * i}
        for i in range(1, N + 1)
    ]
    lines[-1] |= changed
    path = trial.root / name / "metrics.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def root(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> Trial:
    monkeypatch.chdir(trial.root)
    return trial


def filled(text: str) -> str:
    """A skeleton after its review: words for what is claimed, and the control that is suggested for each test."""
    for name in ("description", "property", "if_fails"):
        text = text.replace(f'{name}: ""', f"{name}: something is so")
    text = text.replace("references: []", "references: [x]")
    return re.sub(r", such as (replace: .*)\n(    control: \{edit: [^,]*, ).*\}", r"\n\g<2>\g<1>}", text)


def test_from_a_run_over_a_review_to_evidence(root: Trial) -> None:
    path = log(root)
    done = pv("infer", "run", "-o", "contracts/run-v1.yaml")
    assert done.code == 0
    contract = root.contract("run-v1")
    assert done.stdout == "contracts/run-v1.yaml\n"
    assert pv("validate", contract).code == 1  # nobody has claimed anything yet
    contract.write_text(filled(contract.read_text()))
    assert pv("validate", contract).stdout.endswith("0 error(s), 0 warning(s)\nContract is valid.\n")
    assert pv("lint", "contracts").code == 0
    healthy = root.falsify()
    rules = {row["id"]: row for row in healthy.json["results"]}
    assert len(rules) == 10
    assert {row["verdict"] for row in rules.values()} == {"survived"}
    assert pv("status", "contracts", "--format", "json").json["contracts"][0]["status"] == "FUNCTIONAL"
    log(root, step=31, train_loss=99.0)
    verdicts = {row["id"]: row["verdict"] for row in root.falsify().json["results"]}
    refuted = [line for line in contract.read_text().splitlines() if "rule:" in line]
    assert [
        re.sub(r".*rule: \"?|\"$", "", line)
        for line, verdict in zip(refuted, verdicts.values(), strict=True)
        if verdict != "survived"
    ] == [
        "step increases by 1", "train_loss is within [2, 4.9]", "train_loss ends below its start",
        "tokens is 64 times step",
    ]  # fmt: skip
    assert set(verdicts.values()) == {"survived", "refuted"}
    path.write_text("")
    assert root.falsify("--only", "RUN-FAL-002").verdict("RUN-FAL-002") == "no answer"


def test_a_skeleton_is_as_short_of_records_as_it_was_told(root: Trial) -> None:
    log(root)
    assert "--min-lines" not in pv("infer", "run").stdout
    assert ', --min-lines, "10"]' in pv("infer", "run", "--min-lines", "10").stdout


def test_a_skeleton_replaces_nothing_unless_it_is_told_to(root: Trial) -> None:
    log(root)
    assert pv("infer", "run", "-o", "run.yaml").code == 0
    (root.root / "run.yaml").write_text("mine")
    again = pv("infer", "run", "-o", "run.yaml")
    assert (again.code, "PV512" in again.stderr) == (2, True)
    assert (root.root / "run.yaml").read_text() == "mine"
    assert pv("infer", "run", "-o", "run.yaml", "--force").code == 0
    assert (root.root / "run.yaml").read_text() != "mine"


def test_formats(root: Trial) -> None:
    log(root)
    told = pv("infer", "run", "--format", "json").json
    assert (told["records"], told["unclaimed"].keys()) == (N, {"lr"})
    row = {"claim": "tokens is 64 times step", "kind": "ratio", "fields": ["tokens", "step"], "support": N}
    assert row in told["claims"]
    table = pv("infer", "run", "--format", "table").stdout
    assert all(claim["claim"] in table for claim in told["claims"])
    skeleton = pv("infer", "run")
    assert skeleton.stderr == table  # beside the skeleton


@pytest.mark.parametrize(
    ("claim", "code", "counted"),
    [("step increases by 1", 0, "0"), ("step increases by 2", 1, str(N - 1)), ("gone never falls", 2, None)],
)
def test_a_claim_judges_a_run(root: Trial, claim: str, code: int, counted: str | None) -> None:
    log(root)
    assert pv("infer", "run", "--check", claim).code == code
    done = pv("infer", "run", "--count", claim)
    if counted is None:
        assert (done.code, done.stdout, "PV510" in done.stderr) == (2, "", True)
    else:
        assert (done.code, done.stdout) == (0, f"{counted}\n")


def test_a_refutation_names_line_field_and_value(root: Trial) -> None:
    log(root, train_loss=float("nan"))
    done = pv(
        "infer", "run", "--check", "train_loss is finite", "--check", "step never falls", "--format", "json"
    )
    (loss, step) = done.json["claims"]
    assert (loss["verdict"], step["verdict"], done.code) == ("refuted", "holds", 1)
    place = str(Path("run/metrics.jsonl"))
    assert loss["breaches"] == [
        {"place": f"{place}:{N}", "field": "train_loss", "value": "nan", "must": "must be finite"}
    ]
    assert f"{place}:{N}: train_loss is NaN" in pv("infer", "run", "--check", "train_loss is finite").stdout


def test_one_run_against_another(root: Trial) -> None:
    log(root)
    log(root, "same")
    log(root, "other", step=7)
    assert pv("infer", "run", "--against", "same").code == 0
    done = pv("infer", "run", "--against", "other", "--format", "json")
    assert done.code == 1
    refuted = [row["claim"] for row in done.json["claims"] if row["verdict"] == "refuted"]
    assert refuted == ["step increases by 1", "tokens is 64 times step"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["gone"], "PV101"),
        (["src"], "PV504"),
        (["short.jsonl"], "PV508"),
        (["cut.jsonl"], "PV506"),
        (["empty.jsonl"], "PV507"),
        (["run", "--check", "step goes up"], "PV509"),
        (["../outside"], "PV511"),
        (["run", "--check", "step never falls", "-o", "x"], "PV104"),
        (["run", "--check", "step never falls", "--format", "yaml"], "PV104"),
    ],
)
def test_what_gives_no_answer(root: Trial, arguments: list[str], error: str) -> None:
    text = log(root).read_text()
    log(root, "../outside")
    lines = text.splitlines(keepends=True)
    for name, held in (("short", "".join(lines[:19])), ("cut", text[:-9]), ("empty", "")):
        (root.root / f"{name}.jsonl").write_text(held)
    done = pv("infer", *arguments)
    assert (done.code, done.stdout, error in done.stderr) == (2, "", True)


def test_records_and_odd_names_reach_evidence_too(root: Trial) -> None:
    folder = root.root / "odd [1] records"
    folder.mkdir()
    for i in range(N):
        (folder / f"r{i:02}.json").write_text(json.dumps({"a b": i + 1, "it's \u00e9": {"x": 2.5}}, indent=1))
    assert pv("infer", folder.name, "-o", "contracts/odd-v1.yaml").code == 0
    contract = root.contract("odd-v1")
    contract.write_text(filled(contract.read_text()))
    assert pv("lint", "contracts").code == 0
    done = root.falsify()
    assert {row["verdict"] for row in done.json["results"]} == {"survived"}
