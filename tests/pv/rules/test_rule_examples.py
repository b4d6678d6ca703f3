"""Every rule finds its bad example and not its good one, which is valid as a whole."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

import pv.rules
from pv.finding import Finding, Severity
from pv.profile import Profile
from pv.review import review
from pv.rules.examples import FALSIFIERS, MILESTONES_BASE, STRICT_BASE, Example
from pv.rules.rule import Rule
from pv.rules.table import MODULES, all_rules, rules_by_name

TODAY = date(2026, 11, 24)
RULES = [rule for rule in all_rules() if rule.id != "BASELINE-001"]  # tests/pv/test_baseline.py


def profile_of(rule: Rule, example: Example) -> Profile:
    """The profile that an example is meant for: its base is valid in one only."""
    return Profile.STRICT if example.base in (STRICT_BASE, MILESTONES_BASE) else Profile.PV2


def found(rule: Rule, example: Example, contract: Path) -> list[Finding]:
    judged = review(contract.parent, profile_of(rule, example), TODAY, project=True)
    return [finding for one in judged for finding in one.findings]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_the_bad_example_is_found(rule: Rule, make_project) -> None:
    findings = [f for f in found(rule, rule.bad, make_project(rule.bad)) if f.rule == rule.id]
    assert findings
    for finding in findings:
        assert finding.severity is rule.severity
        assert finding.counts
        assert finding.message
        assert finding.fix
        assert finding.text or rule.id == "PARSE-002"


_OBLIGATION = """proof_obligations:
  - id: SPLIT-OBL-001
    type: invariant
    property: no document is on both sides
"""
_TWO = "proof_obligations: [{id: SPLIT-OBL-001, property: p}, {id: SPLIT-OBL-001, property: q}]\n"
_RUNNER = "runner:\n      pytest: tests/test_split.py::test_disjoint"
_PENDING = "pending: {owner: a, reason: b, needs: [gpu, gpu], expires: 2090-01-01}"
_FIGURE = 'runner: {command: [a], figure: {json: %s, op: "<", value: 1, unit: %s}}'
ALSO_BAD = (
    ("STRICT-004", _OBLIGATION, _TWO),
    ("STRICT-010", _RUNNER, _FIGURE % ("' '", "ms")),
    ("STRICT-010", _RUNNER, _FIGURE % ("a", "''")),
    ("STRICT-035", "    timeout_s: 60\n", f"    {_PENDING}\n"),
    ("STRICT-035", 'control: {patch: "split.side:side", returns: train}', "control: [{env: {A: b}}, {env: {A: b}}]"),
)  # fmt: skip


@pytest.mark.parametrize(("rule", "old", "new"), ALSO_BAD)
def test_other_bad_examples_are_found(rule: str, old: str, new: str, make_project) -> None:
    contract = make_project(Example(changes=((old, new),)))
    (judged,) = review(contract, Profile.STRICT, TODAY)
    assert [f.rule for f in judged.findings] == [rule]


def test_a_truth_value_is_not_the_number_that_it_equals(make_project) -> None:
    two = '[{patch: "a:b", returns: true}, {patch: "a:b", returns: 1}]'
    contract = make_project(
        Example(changes=(('control: {patch: "split.side:side", returns: train}', f"control: {two}"),))
    )
    assert review(contract, Profile.STRICT, TODAY)[0].findings == ()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_the_bad_example_has_no_other_error(rule: Rule, make_project) -> None:
    findings = found(rule, rule.bad, make_project(rule.bad))
    others = {f.rule for f in findings if f.severity is Severity.ERROR} - {rule.id}
    assert others <= ALSO.get(rule.id, set())


# What cannot be wrong alone.
ALSO = {
    "SCHEMA-005": set(),
    "STRICT-005": {"STRICT-007"},  # a test that refutes nothing leaves its obligation unrefuted
    "STRICT-002": {"STRICT-006", "STRICT-020"},  # what has no id cannot be named
    "STRICT-022": set(),
    "STRICT-024": {"STRICT-007"},
    "SCHEMA-016": {"STRICT-021"},
    "SCHEMA-017": {"STRICT-021"},
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_the_good_example_is_valid(rule: Rule, make_project) -> None:
    findings = found(rule, rule.good, make_project(rule.good))
    assert [f.rule for f in findings if f.counts and f.severity is Severity.ERROR] == []
    assert rule.id not in {f.rule for f in findings if f.counts}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_the_examples_differ_from_each_other_and_the_good_one_from_its_base(rule: Rule) -> None:
    assert rule.bad.text != rule.good.text or rule.bad.beside != rule.good.beside
    assert rule.good.changes or rule.good.beside


def test_the_table_has_every_file_once() -> None:
    folder = Path(pv.rules.__path__[0])
    files = {f"{path.parent.name}.{path.stem}" for path in folder.glob("*/*.py") if path.stem != "__init__"}
    assert set(MODULES) == files
    assert len(MODULES) == len(files)


def test_ids_and_names_are_unique_and_files_bear_the_names() -> None:
    rules = all_rules()
    assert len(rules_by_name()) == 2 * len(rules)
    for module, rule in zip(MODULES, rules, strict=True):
        assert module.partition(".")[2].replace("_", "-") == rule.name


@pytest.mark.parametrize("rule", all_rules(), ids=lambda rule: rule.id)
def test_a_page_says_what_and_why(rule: Rule) -> None:
    title, _, why = rule.page.strip().partition("\n\n")
    assert title.endswith(".")
    assert "\n" not in title
    assert why.strip()
    assert rule.profiles


def test_the_base_of_strict_examples_is_valid(make_project) -> None:
    contract = make_project(Example(changes=((FALSIFIERS, FALSIFIERS),)))
    for one in review(contract.parent, Profile.STRICT, TODAY, project=True):
        assert one.findings == ()
