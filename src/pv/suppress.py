"""Comments that allow a finding, each with its reason.

    if_fails: ""   # pv: allow SCHEMA-009 because the rule says it

A comment covers findings of the rule that begin in its own line, or in the next one when it stands alone. What covers
nothing is a finding itself, and so is a suppression without a reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pv.finding import Finding, Severity
from pv.rules.rule import Rule
from pv.rules.table import all_rules, rules_by_name
from pv.tree.nodes import Node, Place, Scalar, walk

_COMMENT = re.compile(r"(?:^|(?<=\s))#\s*pv:\s*(?P<rest>.*)$")
_ALLOW = re.compile(r"allow\s+(?P<rules>[\w-]+(?:\s*,\s*[\w-]+)*)\s+because\s+(?P<reason>\S.*)")
_NEVER = frozenset(("PARSE-001", "PARSE-002", "SUPPRESS-001", "SUPPRESS-002"))
_SHAPE = "write # pv: allow RULE because REASON, with a rule that `pv explain` lists"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppression:
    """A comment that allows findings of some rules in one line."""

    rules: tuple[str, ...]  # ids
    reason: str
    line: int  # that it covers
    place: Place


def suppressed(
    findings: tuple[Finding, ...], text: str, root: Node, path: str, *, project: bool
) -> tuple[Finding, ...]:
    """The findings of a file with those marked that a comment allows, and what is wrong with the comments.

    Args:
        findings: of one file.
        text: of the file.
        root: the tree of the file, to tell a comment from a text that looks like one.
        path: of the file.
        project: whether rules that look at the project were asked; what covers one that was not is not stale.
    """
    if "pv:" not in text:
        return findings
    asked = frozenset(rule.id for rule in all_rules() if project or not rule.reads_project)
    good: list[Suppression] = []
    wrong: list[Finding] = []
    for place, rest in _comments(text, root):
        read = _suppression(place, rest, text)
        if isinstance(read, str):
            wrong.append(_said("SUPPRESS-002", path, place, read, _SHAPE, text))
        else:
            good.append(read)
    marked = [_marked(finding, good) for finding in findings]
    stale = [_stale(s, rule, path, text) for s in good for rule in _idle(s, asked, findings)]
    return (*marked, *wrong, *stale)


def _comments(text: str, root: Node) -> Iterator[tuple[Place, str]]:
    """Comments that begin with `pv:`, outside of every scalar."""
    lines = [(n, found) for n, line in enumerate(text.splitlines(), 1) if (found := _COMMENT.search(line))]
    if not lines:
        return
    scalars = [node.place for node in walk(root) if isinstance(node, Scalar)]
    for number, found in lines:
        column = found.start() + 1
        if not any(_inside(number, column, place) for place in scalars):
            yield Place(number, column, number, found.end() + 1), found["rest"].strip()


def _inside(line: int, column: int, place: Place) -> bool:
    return (place.line, place.column) <= (line, column) < (place.end_line, place.end_column)


def _suppression(place: Place, rest: str, text: str) -> Suppression | str:
    """The suppression that a comment is, or what is wrong with it."""
    found = _ALLOW.fullmatch(rest)
    if found is None:
        return "this comment to pv allows nothing"
    names = re.split(r"\s*,\s*", found["rules"])
    known: dict[str, Rule] = {name: rule for name, rule in rules_by_name().items() if rule.id not in _NEVER}
    for name in names:
        if name not in known:
            return f"{name} is no rule that can be allowed"
    alone = text.splitlines()[place.line - 1][: place.column - 1].strip() == ""
    ids = tuple(known[name].id for name in names)
    return Suppression(rules=ids, reason=found["reason"].strip(), line=place.line + alone, place=place)


def _idle(suppression: Suppression, asked: frozenset[str], findings: tuple[Finding, ...]) -> list[str]:
    """The rules of a suppression that were asked and found nothing in its line."""
    found = {finding.rule for finding in findings if finding.place.line == suppression.line}
    return [rule for rule in suppression.rules if rule in asked and rule not in found]


def _marked(finding: Finding, suppressions: list[Suppression]) -> Finding:
    for suppression in suppressions:
        if finding.rule in suppression.rules and finding.place.line == suppression.line:
            return replace(finding, allowed=suppression.reason)
    return finding


def _stale(suppression: Suppression, rule: str, path: str, text: str) -> Finding:
    says = f"there is no {rule} in line {suppression.line} to allow"
    return _said("SUPPRESS-001", path, suppression.place, says, "remove the comment", text)


def _said(rule: str, path: str, place: Place, says: str, fix: str, text: str) -> Finding:
    severity = rules_by_name()[rule].severity
    shown = text.splitlines()[place.line - 1][place.column - 1 :].strip()
    return Finding(
        rule=rule, severity=Severity(severity), path=path, place=place, message=says, fix=fix, text=shown
    )
