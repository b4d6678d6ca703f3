"""What a release needs cannot become less in passing."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from pv.artifacts import Other, read_artifact, shape_of
from pv.change.change import Kind
from pv.change.compare_milestones import compare_milestones
from pv.contract.contract import Contract
from pv.corpus import Corpus
from pv.judge import judge
from pv.profile import Profile
from pv.rules.rule import Around
from pv.tree.load import load_tree
from pv_mutants import Mutant, mutants
from pv_project import Outcome, pv

ROOT = Path(__file__).parents[3]
BASE = """\
milestones:
  - id: first
    title: The first release
    claims: [A-FAL-001, A-OBL-002, "a-v1: FUNCTIONAL"]
  - {id: second, title: The second, claims: ["a-v1: DISCHARGED"]}
"""
CASES: list[tuple[str, str, set[Kind]]] = [
    ("[A-FAL-001, A-OBL-002, \"a-v1: FUNCTIONAL\"]", "['a-v1: FUNCTIONAL', A-OBL-002, A-FAL-001] # as before", set()),
    ("\"a-v1: FUNCTIONAL\"", "a-v1: FUNCTIONAL", set()),
    ("A-FAL-001, ", "", {Kind.WEAKENED}),
    (", \"a-v1: FUNCTIONAL\"", "", {Kind.WEAKENED}),
    ("a-v1: FUNCTIONAL", "a-v1: PARTIAL_ALGORITHM_LEVEL", {Kind.WEAKENED}),
    ("a-v1: FUNCTIONAL", "a-v1: DISCHARGED", {Kind.STRENGTHENED}),
    ("A-FAL-001", "A-FAL-001, A-FAL-002", {Kind.STRENGTHENED}),
    ("A-FAL-001", "A-FAL-002", {Kind.STRENGTHENED, Kind.WEAKENED}),
    ("The first release", "Release one", {Kind.REWORDED}),
    ("  - {id: second, title: The second, claims: [\"a-v1: DISCHARGED\"]}\n", "", {Kind.REMOVED}),
    ("id: second", "id: last", {Kind.REMOVED, Kind.ADDED}),
]  # fmt: skip


def read(text: str) -> list[Other]:
    root = load_tree(text, "milestones.yaml")
    return [Other(shape=shape_of(root), path="milestones.yaml", text=text, root=root)]


@pytest.mark.parametrize(("old", "new", "kinds"), CASES)
def test_a_change_has_its_direction(old: str, new: str, kinds: set[Kind]) -> None:
    assert BASE.count(old) == 1
    changes = compare_milestones(read(BASE), read(BASE.replace(old, new)))
    assert {change.kind for change in changes} == kinds
    is_less = bool(kinds & {Kind.WEAKENED, Kind.REMOVED})
    assert any(change.must_be_waived for change in changes) is is_less


def test_pv_diff_says_so(tmp_path: Path) -> None:
    for name, text in (("old", BASE), ("new", BASE.replace("A-FAL-001, ", ""))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "milestones.yaml").write_text(text)
        (tmp_path / name / "a-v1.yaml").write_bytes((ROOT / "contracts/tokens-v1.yaml").read_bytes())
    done: Outcome = pv("diff", tmp_path / "old", tmp_path / "new", "--format", "json")
    (change,) = done.json["changes"]
    assert (done.code, change["contract"], change["claim"]) == (1, "milestones", "first")
    assert change["change"] == "claims without A-FAL-001"


def found(mutant: Mutant, whole: Other, corpus: Corpus) -> set[str]:
    if shape_of(mutant.root) != "milestones":
        return {"PARSE-001"}  # it is read as a contract, and is none
    mutated = replace(whole, root=mutant.root)
    around = Around(corpus=corpus, today=date(2026, 11, 24))
    return {finding.rule for finding in judge(mutated, around, Profile.STRICT)}


def test_every_change_of_ours_is_found_or_classified_unless_it_is_the_order() -> None:
    whole = read_artifact(ROOT / "contracts" / "milestones.yaml", Profile.STRICT)
    assert isinstance(whole, Other)
    contracts = [
        read_artifact(path, Profile.STRICT) for path in sorted((ROOT / "contracts").glob("*-v?.yaml"))
    ]
    corpus = Corpus.of([contract for contract in contracts if isinstance(contract, Contract)], ROOT)
    made = list(mutants(load_tree(whole.text, whole.path)))
    passed = {
        (m.how, m.key)
        for m in made
        if not found(m, whole, corpus) and not compare_milestones([whole], [replace(whole, root=m.root)])
    }
    assert len(made) > 200
    assert {how for how, _ in passed} == {"swap"}
