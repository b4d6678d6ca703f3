"""Comments that allow findings: where they reach, what is wrong with them, what only looks like one."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from pv.profile import Profile
from pv.review import review
from pv.rules.examples import STRICT_BASE

WARNS = STRICT_BASE.replace(
    "if_fails: the validation loss is measured on text that was trained on", "if_fails: ''"
)


def rules(tmp_path: Path, text: str) -> dict[str, str | None]:
    """Each finding's rule, with the reason for which it is allowed."""
    path = tmp_path / "x-v1.yaml"
    path.write_text(text, encoding="utf-8")
    (one,) = review(path, Profile.STRICT, date(2026, 11, 24))
    return {finding.rule: finding.allowed for finding in one.findings}


def put(comment: str, where: str = "if_fails: ''") -> str:
    assert WARNS.count(where) == 1
    return WARNS.replace(where, f"{where} {comment}")


def test_without_a_comment_it_is_found(tmp_path: Path) -> None:
    assert rules(tmp_path, WARNS) == {"SCHEMA-009": None}


@pytest.mark.parametrize("names", ["SCHEMA-009", "if-fails-empty", "SCHEMA-009,if-fails-empty"])
def test_a_comment_in_the_line_allows_it(tmp_path: Path, names: str) -> None:
    assert rules(tmp_path, put(f"# pv: allow {names} because it is so")) == {"SCHEMA-009": "it is so"}


def test_a_comment_alone_allows_the_next_line(tmp_path: Path) -> None:
    text = WARNS.replace("    if_fails: ''", "    # pv: allow SCHEMA-009 because x\n    if_fails: ''")
    assert rules(tmp_path, text) == {"SCHEMA-009": "x"}


def test_a_comment_two_lines_above_is_stale(tmp_path: Path) -> None:
    text = WARNS.replace("    if_fails: ''", "    # pv: allow SCHEMA-009 because x\n\n    if_fails: ''")
    assert rules(tmp_path, text) == {"SCHEMA-009": None, "SUPPRESS-001": None}


def test_one_rule_of_two_is_stale(tmp_path: Path) -> None:
    found = rules(tmp_path, put("# pv: allow SCHEMA-009, SCHEMA-008 because x"))
    assert found == {"SCHEMA-009": "x", "SUPPRESS-001": None}


@pytest.mark.parametrize(
    "comment",
    ["# pv: allow SCHEMA-009", "# pv: allow SCHEMA-009 because ", "# pv: allow because x", "# pv: allow S-1 because x",
     "# pv: ignore SCHEMA-009 because x", "# pv:", "# pv: allow SUPPRESS-001 because x",
     "# pv: allow PARSE-001 because x"],
)  # fmt: skip
def test_a_comment_that_says_too_little_allows_nothing(tmp_path: Path, comment: str) -> None:
    assert rules(tmp_path, put(comment)) == {"SCHEMA-009": None, "SUPPRESS-002": None}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("property: no", "property: |\n      # pv: allow SCHEMA-009\n      no"),
        ("property: no", "property: '# pv: allow SCHEMA-009', # no"),
        ("formula: train", "formula: 'a\n      # pv: b',\n      # train"),
    ],
)
def test_a_text_that_looks_like_a_comment_is_none(tmp_path: Path, old: str, new: str) -> None:
    text = STRICT_BASE.replace(old, new).replace("',", "'")
    assert rules(tmp_path, text) == {}


def test_a_rule_that_only_lint_asks_is_not_stale_for_validate(tmp_path: Path) -> None:
    text = STRICT_BASE.replace(
        "    subjects: [src/split/*.py]\n    control",
        "    subjects: [src/split/*.py] # pv: allow STRICT-025 because it is generated\n    control",
    )
    assert rules(tmp_path, text) == {}
