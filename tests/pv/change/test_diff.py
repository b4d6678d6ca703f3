"""Every change of a contract is classified, in its direction."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from pv.change.change import Kind
from pv.change.compare_parts import TABLES
from pv.change.compare_values import claim, same, words_in_any_order
from pv.change.version import bump_of, follows, next_version
from pv_project import Outcome, pv

BASE = """\
metadata:
  version: "1.0.0"
  created: 2026-02-18
  description: The sides share no document.
  references: [docs/split.md]
  depends_on: [tokens-v1]
  enforcement_level: strict
equations:
  disjoint:
    formula: train & val = {}
    invariants: [no document is lost]
    preconditions: [n > 0]
    float_tolerance: 0.01
proof_obligations:
  - id: S-OBL-1
    type: invariant
    property: no document is on both sides
    formal: len(train & val) == 0
    tolerance: 0.5
falsification_tests:
  - id: S-FAL-1
    rule: the sides are disjoint
    prediction: 0 of 1,000 documents are on both sides
    if_fails: the loss is measured on what was trained on
    refutes: [S-OBL-1]
    runner: {pytest: [tests/test_split.py::test_a, tests/test_split.py::test_b]}
    timeout_s: 60
    needs: [gpu]
    subjects: [src/*.py, data/*.txt]
    live: true
    control: [{patch: "split:side", returns: train}, {env: {A: b}}]
  - id: S-FAL-2
    rule: it is quick
    prediction: the start takes 150 ms at most
    if_fails: it is slow
    refutes: [S-OBL-1]
    runner: {measure: [python, bench.py], op: "<=", value: 150, unit: ms, repeats: 5}
    subjects: [src/*.py]
    control: {env: {SLOW: "1"}}
    pending: {owner: me, reason: no machine, needs: [gpu], expires: 2027-01-01}
  - id: S-FAL-3
    rule: it refuses
    prediction: exit code 2
    if_fails: it goes on
    refutes: [S-OBL-1]
    runner: {command: [apr, plan], exit_code: 2, figure: {json: loss, op: ">", value: 3, unit: nat}}
    subjects: [src/*.py]
    level: full
    control: {edit: src/a.py, replace: x, by: y}
bounded_proofs:
  - id: S-PRF-1
    obligation: S-OBL-1
    property: every case has a side
    bound: 16
    runner: {exhaustive: "split:check", domain: "split:cases", size: 100}
    subjects: [src/*.py]
"""

CASES: list[tuple[str, str, str | None, bool]] = [
    # formatting, comments, order: nothing
    ("id: S-OBL-1\n    type: invariant\n", "type: invariant   # what it is\n    id: 'S-OBL-1'\n", None, False),
    ("tolerance: 0.5", "tolerance: 0.50", None, False),
    ("subjects: [src/*.py, data/*.txt]", "subjects:\n      - data/*.txt\n      - src/*.py", None, False),
    ("formal: len(train & val) == 0", "formal: len( train&val )==0", None, False),
    ("references: [docs/split.md]", "references: [README.md, docs/split.md]", "reworded", False),
    # weaker
    ("tolerance: 0.5", "tolerance: 0.6", "weakened", True),
    ("    tolerance: 0.5\n", "", "weakened", True),
    ("float_tolerance: 0.01", "float_tolerance: 0.1", "weakened", True),
    ("invariants: [no document is lost]", "invariants: []", "weakened", True),
    ("preconditions: [n > 0]", "preconditions: [n > 0, n < 9]", "weakened", True),
    ("[tests/test_split.py::test_a, tests/test_split.py::test_b]", "[tests/test_split.py::test_a]", "weakened", True),
    ("control: [{patch: \"split:side\", returns: train}, {env: {A: b}}]", "control: {env: {A: b}}", "weakened", True),
    ("    control: {env: {SLOW: \"1\"}}\n", "", "weakened", True),
    ("subjects: [src/*.py, data/*.txt]", "subjects: [src/*.py]", "weakened", True),
    ("live: true", "live: false", "weakened", True),
    ("needs: [gpu]\n    subjects", "needs: [gpu, network]\n    subjects", "weakened", True),
    ("value: 150", "value: 200", "weakened", True),
    ("repeats: 5", "repeats: 3", "weakened", True),
    ("expires: 2027-01-01", "expires: 2028-01-01", "weakened", True),
    ('op: ">", value: 3', 'op: ">", value: 2', "weakened", True),
    ('op: ">", value: 3', 'op: ">=", value: 3', "weakened", True),
    (', figure: {json: loss, op: ">", value: 3, unit: nat}', "", "weakened", True),
    ("level: full", "level: part", "weakened", True),
    ("bound: 16", "bound: 8", "weakened", True),
    ("size: 100", "size: 50", "weakened", True),
    ("depends_on: [tokens-v1]", "depends_on: []", "weakened", True),
    ("enforcement_level: strict", "enforcement_level: basic", "weakened", True),
    # another claim
    ("0 of 1,000", "1 of 1,000", "changed", True),
    ("property: no document", "property: hardly a document", "changed", True),
    ("the sides are disjoint", "the sides are not disjoint", "changed", True),
    ("formula: train & val = {}", "formula: train | val = {}", "changed", True),
    ("exit_code: 2", "exit_code: 1", "changed", True),
    ("unit: ms", "unit: s", "changed", True),
    ("type: invariant", "type: soundness", "changed", True),
    ("[python, bench.py]", "[python, other.py]", "changed", True),
    ('"split:cases"', '"split:fewer"', "changed", True),
    ('exhaustive: "split:check", domain: "split:cases", size: 100', 'hypothesis: "split:check"', "changed", True),
    ("exit code 2", "the exit code is 2", "reworded", True),
    # words that claim nothing
    ("if_fails: it is slow", "if_fails: it is very slow", "reworded", False),
    ("description: The sides", "description: Both sides", "reworded", False),
    ("timeout_s: 60", "timeout_s: 90", "reworded", False),
    ("reason: no machine", "reason: no machine yet", "reworded", False),
    # stronger
    ("tolerance: 0.5", "tolerance: 0.4", "strengthened", False),
    ("value: 150", "value: 100", "strengthened", False),
    ('op: "<=", value: 150', 'op: "<", value: 150', "strengthened", False),
    ('op: ">", value: 3', 'op: ">", value: 4', "strengthened", False),
    ("bound: 16", "bound: 32", "strengthened", False),
    ("repeats: 5", "repeats: 9", "strengthened", False),
    ("needs: [gpu]\n    subjects", "needs: []\n    subjects", "strengthened", False),
    ("preconditions: [n > 0]", "preconditions: []", "strengthened", False),
    ("expires: 2027-01-01", "expires: 2026-12-01", "strengthened", False),
    ("    pending: {owner: me, reason: no machine, needs: [gpu], expires: 2027-01-01}\n", "", "strengthened", False),
    ("control: {edit: src/a.py", "live: true\n    control: {edit: src/a.py", "strengthened", False),
]  # fmt: skip


def _diff(folder: Path, new: str) -> Outcome:
    for name, text in (("old", BASE), ("new", new)):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "split-v1.yaml").write_text(text)
    return pv("diff", folder / "old/split-v1.yaml", folder / "new/split-v1.yaml", "--format", "json")


@pytest.mark.parametrize(("old", "new", "kind", "must_be_waived"), CASES)
def test_classified(tmp_path: Path, old: str, new: str, kind: str | None, must_be_waived: bool) -> None:
    assert BASE.count(old) == 1
    changes = _diff(tmp_path, BASE.replace(old, new)).json["changes"]
    if kind is None:
        assert changes == []
    else:
        assert {(c["kind"], c["must_be_waived"]) for c in changes} == {(kind, must_be_waived)}, changes


@pytest.mark.parametrize("name", ["S-FAL-2", "S-PRF-1", "S-OBL-1"])
def test_a_part_that_is_removed_or_added(tmp_path: Path, name: str) -> None:
    lines = BASE.splitlines(keepends=True)
    start = lines.index(f"  - id: {name}\n")
    end = next((i for i in range(start + 1, len(lines)) if not lines[i].startswith("    ")), len(lines))
    is_alone = not lines[start - 1].startswith("  ") and "".join(lines[end : end + 1])[:4] != "  - "
    less = "".join(lines[: start - is_alone] + lines[end:])
    (change,) = _diff(tmp_path, less).json["changes"]
    assert (change["claim"], change["kind"], change["must_be_waived"]) == (name, "removed", True)
    (tmp_path / "old/split-v1.yaml").write_text(less)
    (tmp_path / "new/split-v1.yaml").write_text(BASE)
    done = pv("diff", tmp_path / "old", tmp_path / "new", "--format", "json")
    (change,) = done.json["changes"]
    assert (change["kind"], change["must_be_waived"]) == ("added", False)


@pytest.mark.parametrize(
    ("old", "new", "version", "bump", "code"),
    [
        ("if_fails: it is slow", "if_fails: it is very slow", "1.0.0", "patch", 1),
        ("if_fails: it is slow", "if_fails: it is very slow", "1.0.1", "patch", 0),
        ("value: 150", "value: 100", "1.0.1", "minor", 1),
        ("value: 150", "value: 100", "1.1.0", "minor", 0),
        ("value: 150", "value: 200", "2.0.0", "major", 1),
        ("timeout_s: 60", "timeout_s: 60 # as before", "1.0.0", "none", 0),
    ],
)
def test_the_version_follows(tmp_path: Path, old: str, new: str, version: str, bump: str, code: int) -> None:
    done = _diff(tmp_path, BASE.replace(old, new).replace('"1.0.0"', f'"{version}"'))
    assert (done.json["versions"]["split-v1"]["bump"], done.code) == (bump, code)


def test_the_order_of_references_means_nothing() -> None:
    assert list(words_in_any_order("references", ("a", "b"), ("b", "a"))) == []
    assert [d.kind for d in words_in_any_order("references", ("a", "b"), ("b",))] == [Kind.REWORDED]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("APR101 ends it", "APR102 ends it"),
        ("F32 is kept", "F16 is kept"),
        ("at step-0", "at step-1"),
        ("2.5.1", "2.5.2"),
    ],
)
def test_a_number_within_a_name_is_another_number(old: str, new: str) -> None:
    assert [d.kind for d in claim("prediction", old, new)] == [Kind.CHANGED]


def test_what_is_no_number_is_not_the_text_of_it() -> None:
    assert not same((float("nan"),), ("nan",))
    assert same((float("nan"),), (float("nan"),))
    assert not same((True,), (1,))


def test_versions() -> None:
    assert (bump_of(()), next_version("1.2.3", "minor"), next_version("one", "minor")) == (
        "none",
        "1.3.0",
        None,
    )
    assert follows("1.9.0", "1.10.0", "minor")
    assert not follows("1.9.0", "1.8.0", "patch")


@pytest.mark.parametrize("kind", TABLES, ids=lambda kind: kind.__name__)
def test_every_field_has_a_comparison(kind: Any) -> None:
    assert set(TABLES[kind]) == {field.name for field in fields(kind) if field.compare}


def test_a_side_that_cannot_be_read(tmp_path: Path) -> None:
    done = _diff(tmp_path, "metadata: [")
    assert (done.code, "PV402" in done.stderr) == (2, True)


@pytest.mark.parametrize("limit", [".nan", ".inf"])
def test_what_is_no_number_is_the_same_as_itself(tmp_path: Path, limit: str) -> None:
    path = tmp_path / "split-v1.yaml"
    path.write_text(BASE.replace("tolerance: 0.5", f"tolerance: {limit}"))
    assert pv("diff", path, path).code == 0
