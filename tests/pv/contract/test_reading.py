"""A contract from a file: fields, spellings, profiles, and what is wrong with values."""

from __future__ import annotations

from pathlib import Path

import pytest

from pv.contract.contract import Contract, Unreadable, load_contract
from pv.contract.control import Replacement
from pv.contract.runner import CommandRunner, MeasureRunner, PytestRunner, PythonRunner
from pv.profile import Profile
from pv.rules.examples import FIELD_BASE, STRICT_BASE
from pv.tree.nodes import Place

HEAD = "metadata: {version: 1.0, description: x, references: [a]}\nequations: {}\n"


def read(tmp_path: Path, text: str, profile: Profile = Profile.STRICT) -> Contract:
    made = attempt(tmp_path, text, profile)
    assert isinstance(made, Contract), made
    return made


def attempt(tmp_path: Path, text: str, profile: Profile = Profile.STRICT) -> Contract | Unreadable:
    path = tmp_path / "x-v1.yaml"
    path.write_text(text, encoding="utf-8")
    return load_contract(path, profile)


def test_text_fields_take_the_raw_text(tmp_path: Path) -> None:
    head = "metadata: {version: 1.0, description: yes, created: 2026-02-18, author: 0x1F, references: [~, 1e3, no]}\n"
    metadata = read(tmp_path, head).metadata
    assert (metadata.version, metadata.description, metadata.created) == ("1.0", "yes", "2026-02-18")
    assert (metadata.author, metadata.references) == ("0x1F", ("~", "1e3", "no"))


def test_null_is_absent_for_an_optional_field_and_empty_in_quotes_is_not(tmp_path: Path) -> None:
    contract = read(
        tmp_path, HEAD + "falsification_tests: [{id: a, rule: ~}, {id: b, rule: ''}, {id: c, rule: }]\n"
    )
    assert [test.rule for test in contract.tests] == [None, "", None]


def test_required_null_is_its_text_in_the_field_and_empty_here(tmp_path: Path) -> None:
    head = HEAD.replace("1.0", "null")
    assert read(tmp_path, head, Profile.PV1).metadata.version == "null"
    assert read(tmp_path, head).metadata.version == ""


@pytest.mark.parametrize("profile", [Profile.PV2, Profile.STRICT])
def test_other_spellings_are_read_since_the_second_generation(tmp_path: Path, profile: Profile) -> None:
    text = HEAD + (
        "proof_obligations: [{statement: p, verification: f}]\n"
        "falsification_tests: [{id: a, description: r, expected: e, command: t, fails_if: i, obligation: O}]\n"
    )
    contract = read(tmp_path, text, profile)
    (obligation,), (test,) = contract.obligations, contract.tests
    assert (obligation.type, obligation.property, obligation.formal) == ("invariant", "p", "f")
    assert (test.rule, test.prediction, test.test, test.if_fails) == ("r", "e", "t", "i")
    assert test.obligations == ("O",)
    assert obligation.where("property") == Place(3, 33, 3, 34)


def test_a_name_and_its_alias_are_one_field_twice(tmp_path: Path) -> None:
    made = attempt(tmp_path, HEAD + "proof_obligations: [{property: p, statement: q}]\n")
    assert isinstance(made, Unreadable)
    assert [(p.place.line, p.place.column) for p in made.problems] == [(3, 35)]


def test_the_first_generation_ignores_what_came_later(tmp_path: Path) -> None:
    contract = read(tmp_path, STRICT_BASE.replace("[src/split/*.py]", "{not: a list}"), Profile.PV1)
    assert contract.obligations[0].id is None
    assert contract.tests[0].runner is None
    assert contract.proofs == ()


def test_both_generations_read_a_strict_contract(tmp_path: Path) -> None:
    for profile in Profile:
        assert read(tmp_path, STRICT_BASE, profile).tests[0].id == "SPLIT-FAL-001"


def test_equations_may_be_a_list_since_the_second_generation(tmp_path: Path) -> None:
    text = "metadata: {version: 1, description: x}\nequations: [{id: e, formula: f}, {formula: g}]\n"
    assert [e.name for e in read(tmp_path, text, Profile.PV2).equations] == ["e", "equation-1"]
    assert isinstance(attempt(tmp_path, text, Profile.PV1), Unreadable)


def test_of_a_free_name_that_stands_twice_the_last_counts(tmp_path: Path) -> None:
    head = "metadata: {version: 1, description: x}\nequations: {a: {formula: f}, a.b: {formula: h}, a: {formula: g}}\n"
    assert [(e.name, e.formula) for e in read(tmp_path, head, Profile.PV1).equations] == [
        ("a", "g"),
        ("a.b", "h"),
    ]


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("proof_obligations: [{type: Invariant, property: p}]", 28),
        ("proof_obligations: [{property: [p]}]", 32),
        ("proof_obligations: [{property: p, tolerance: small}]", 46),
        ("proof_obligations: [{type: bound}]", 21),
        ("proof_obligations: ~", 20),
        ("proof_obligations: {}", 20),
        ("proof_obligations: [p]", 21),
        ("kani_harnesses: [{id: k, obligation: o, bound: -1}]", 48),
        ("kani_harnesses: [{id: k, obligation: o, bound: 1.5}]", 48),
        ("kani_harnesses: [{id: k, obligation: o, bound: 4294967296}]", 48),
        ("kani_harnesses: [{id: k, obligation: o, actually_verified: yes}]", 60),
        ("kani_harnesses: [{id: k, obligation: o, strategy: all}]", 51),
        ("qa_gate: []", 10),
        ("falsification_tests: [{id: a, runner: {}}]", 39),
        ("falsification_tests: [{id: a, runner: {pytest: a, python: b}}]", 39),
        ("falsification_tests: [{id: a, runner: pytest}]", 39),
        ('falsification_tests: [{id: a, runner: {command: "a \'b"}}]', 49),
        ("falsification_tests: [{id: a, runner: {measure: a, op: '='}}]", 56),
        ("falsification_tests: [{id: a, runner: {command: a, figure: {json: b, op: ~}}}]", 60),
        ("falsification_tests: [{id: a, level: half}]", 38),
        ("falsification_tests: [{id: a, live: 1}]", 37),
        ("falsification_tests: [{id: a, control: {}}]", 40),
        ("falsification_tests: [{id: a, control: {patch: a, env: {}}}]", 40),
        ("falsification_tests: [{id: a, control: {patch: a}}]", 40),
        ("falsification_tests: [{id: a, control: {patch: ~, value: 1}}]", 40),
        ("falsification_tests: [{id: a, control: {patch: a, value: 1, returns: 1}}]", 40),
        ("falsification_tests: [{id: a, control: {env: [A]}}]", 46),
        ("verification_summary: {}", 23),
        ("kernel_structure: {}", 19),
    ],
)
def test_a_value_that_cannot_be_is_a_problem_with_its_place(tmp_path: Path, text: str, column: int) -> None:
    made = attempt(tmp_path, HEAD + text + "\n")
    assert isinstance(made, Unreadable)
    assert (made.problems[0].place.line, made.problems[0].place.column) == (3, column)


def test_all_problems_are_told_at_once_in_order(tmp_path: Path) -> None:
    made = attempt(tmp_path, "metadata: {version: [1]}\nproof_obligations: ~\nequations: 7\n")
    assert isinstance(made, Unreadable)
    assert [(p.place.line, p.place.column) for p in made.problems] == [(1, 11), (1, 21), (2, 20), (3, 12)]


@pytest.mark.parametrize("text", ["a: 1\n", "metadata: ~\n", "[]\n", "text\n", "metadata: []\n"])
def test_what_has_no_head_is_no_contract(tmp_path: Path, text: str) -> None:
    assert isinstance(attempt(tmp_path, text), Unreadable)


def runner_of(tmp_path: Path, text: str) -> object:
    return read(tmp_path, HEAD + f"falsification_tests: [{{id: a, runner: {text}}}]\n").tests[0].runner


def test_the_four_runners(tmp_path: Path) -> None:
    runner = runner_of(tmp_path, "{pytest: tests/a.py::b}")
    assert isinstance(runner, PytestRunner)
    assert runner.node_ids == ("tests/a.py::b",)
    runner = runner_of(tmp_path, "{command: \"apr plan --init 'my file'\", exit_code: 2}")
    assert isinstance(runner, CommandRunner)
    assert (runner.argv, runner.exit_code, runner.figure) == (("apr", "plan", "--init", "my file"), 2, None)
    runner = runner_of(tmp_path, "{command: [a, 'b c'], figure: {json: x.y, op: '<', value: 1, unit: s}}")
    assert isinstance(runner, CommandRunner)
    assert runner.argv == ("a", "b c")
    assert runner.figure is not None
    assert (runner.figure.json, runner.figure.op, runner.figure.value) == ("x.y", "<", 1)
    runner = runner_of(tmp_path, "{python: a.b:c}")
    assert isinstance(runner, PythonRunner)
    assert runner.target == "a.b:c"
    runner = runner_of(tmp_path, "{measure: python bench.py, op: '<=', value: 150, unit: ms, repeats: 5}")
    assert isinstance(runner, MeasureRunner)
    assert (runner.op, runner.value, runner.unit, runner.repeats) == ("<=", 150, "ms", 5)


def test_controls_are_one_or_a_list(tmp_path: Path) -> None:
    tests = (
        "falsification_tests:\n"
        "  - {id: a, control: {patch: 'm:f', returns: [1, no]}}\n"
        "  - {id: b, control: [{edit: src/x.c, replace: a, by: b}, {env: {A: 1}, sees: oh}]}\n"
    )
    one, two = read(tmp_path, HEAD + tests).tests
    assert one.controls[0].replacement == Replacement(how="returns", value=[1, "no"])
    assert two.controls[0].edit is not None
    assert two.controls[0].edit.by == "b"
    assert (two.controls[1].env, two.controls[1].sees) == ({"A": "1"}, "oh")


def test_parts_with_the_same_values_are_equal_wherever_they_stand(tmp_path: Path) -> None:
    before = read(tmp_path, STRICT_BASE)
    after = read(tmp_path, "# a comment\n" + STRICT_BASE.replace("timeout_s: 60", "timeout_s:   6.0e1"))
    assert before.tests == after.tests
    assert before != read(tmp_path, STRICT_BASE.replace("timeout_s: 60", "timeout_s: 61"))


def test_unknown_keys_are_noted_wherever_they_stand(tmp_path: Path) -> None:
    contract = read(tmp_path, STRICT_BASE + "foo: 1\n" + "qa_gate: {bar: 1}\n")
    assert [(key.within, key.name) for key in contract.unknown_keys] == [("qa_gate", "bar"), ("", "foo")]


def test_the_field_reads_its_own(tmp_path: Path) -> None:
    for profile in (Profile.PV1, Profile.PV2):
        contract = read(tmp_path, FIELD_BASE, profile)
        assert contract.proofs[0].bound == 16
        assert contract.qa_gate is not None


def test_blocks_have_their_places_under_our_names(tmp_path: Path) -> None:
    contract = read(tmp_path, HEAD + "proof_obligations: []\nkani_harnesses: []\nfalsification_tests: []\n")
    assert [contract.where(name).line for name in ("obligations", "proofs", "tests", "qa_gate")] == [
        3,
        4,
        5,
        1,
    ]
    assert contract.has("obligations")
    assert not contract.has("qa_gate")
