"""Put the rules to one artifact and give back what they find."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from pv.artifacts import Artifact, Other
from pv.contract.binding import read_binding
from pv.contract.contract import Contract, Unreadable
from pv.contract.fields import Fields
from pv.contract.reading import Problem, Reading
from pv.errors import PathUnreadable, YamlWrong
from pv.finding import Finding, Severity, excerpt
from pv.profile import Profile
from pv.rules.rule import Around, Offence, Rule
from pv.rules.table import rules_of
from pv.tree.nodes import Place

_ROOMS = {
    Profile.PV1: ("schema",),
    Profile.PV2: ("schema", "kinds"),
    Profile.STRICT: ("schema", "kinds", "strict"),
}
_ROOM_OF = {"publish-manifest": "manifest", "milestones": "milestones"}
_BY_DEFAULT = "; the kind is kernel by default: another metadata.kind may be meant"


def judge(
    artifact: Artifact, around: Around, profile: Profile, *, project: bool = False
) -> tuple[Finding, ...]:
    """What is wrong with an artifact, in the order of the rules.

    Args:
        artifact: a file as it was read.
        around: what it stands among.
        profile: whose rules are put.
        project: whether to look at the files of the project that the contract names.
    """
    if isinstance(artifact, Contract):
        return tuple(_of_contract(artifact, around, profile, project))
    if isinstance(artifact, Other):
        return tuple(_of_document(artifact, around, profile))
    if isinstance(artifact, Unreadable):
        return tuple(_of_problems(artifact.problems, artifact.path, artifact.text))
    return (_of_error(artifact),)


def _of_contract(contract: Contract, around: Around, profile: Profile, project: bool) -> Iterator[Finding]:
    noted = contract.metadata.kind_was_given or profile is Profile.PV1
    for rule in rules_of(profile, *_ROOMS[profile]):
        if rule.reads_project and not project:
            continue
        if rule.kernel_only and profile is not Profile.STRICT and contract.metadata.kind != "kernel":
            continue
        for offence in rule.check(contract, around):
            finding = _finding(rule, offence, contract.path, contract.text)
            if rule.kernel_only and not noted:
                finding, noted = _with_note(finding), True
            yield finding


def _of_document(document: Other, around: Around, profile: Profile) -> Iterator[Finding]:
    if document.shape == "binding":
        reading = Reading(profile=profile)
        read_binding(Fields(document.root, "", reading))
        yield from _of_problems(reading.problems, document.path, document.text)
    room = _ROOM_OF.get(document.shape)
    for rule in rules_of(profile, room) if room else ():
        if rule.check_document is not None:
            for offence in rule.check_document(document, around):
                yield _finding(rule, offence, document.path, document.text)


def _finding(rule: Rule, offence: Offence, path: str, text: str) -> Finding:
    return Finding(
        rule=rule.id,
        severity=rule.severity,
        path=path,
        place=offence.place,
        message=offence.says,
        fix=offence.fix,
        text=excerpt(text, offence.place),
    )


def _with_note(finding: Finding) -> Finding:
    return replace(finding, fix=finding.fix + _BY_DEFAULT)


def _of_problems(problems: Iterable[Problem], path: str, text: str) -> Iterator[Finding]:
    for problem in problems:
        yield Finding(
            rule="PARSE-001",
            severity=Severity.ERROR,
            path=path,
            place=problem.place,
            message=problem.says,
            fix="correct the value",
            text=excerpt(text, problem.place),
        )


def _of_error(error: YamlWrong | PathUnreadable) -> Finding:
    is_yaml = isinstance(error, YamlWrong)
    line, column = (error.line, error.column) if isinstance(error, YamlWrong) else (1, 1)
    return Finding(
        rule="PARSE-002",
        severity=Severity.ERROR,
        path=error.path,
        place=Place(line, column, line, column),
        message=error.what if isinstance(error, YamlWrong) else error.message,
        fix="correct it there" if is_yaml else error.advice,
        text="",
    )
