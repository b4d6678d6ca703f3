"""One run of a claim as an in-toto Statement with the test-result predicate; what is ours stands under `pv` in it."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pv import __version__
from pv.contract.falsifier import FalsificationTest
from pv.evidence.canonical import digest_of
from pv.evidence.subjects import Subject, file_digest
from pv.run.answer import Answer, Measured
from pv.run.needs import devices
from pv.run.planting import Controlled
from pv.run.project import Project
from pv.run.verdict import Result, Verdict

TYPE = "https://in-toto.io/Statement/v1"
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"
_RESULT = {Verdict.SURVIVED: "PASSED", Verdict.NO_ANSWER: "WARNED"}


def statement_of(result: Result, subjects: tuple[Subject, ...], project: Project) -> dict[str, Any]:
    """The document that records a run.

    Args:
        result: a claim that was run.
        subjects: what the verdict speaks about.
        project: where it was run.
    """
    answer = result.answer
    assert answer is not None
    document: dict[str, Any] = {
        "_type": TYPE,
        "subject": [*map(_subject, subjects), *_artifacts(answer, project.root)],
        "predicateType": PREDICATE,
        "predicate": {
            "result": _RESULT.get(result.verdict, "FAILED"),
            "configuration": [_configuration(result, project)],
            "passedTests": list(answer.passed),
            "warnedTests": [],
            "failedTests": list(answer.failed),
            "pv": _ours(result, answer, project),
        },
    }
    return sealed(document)


def sealed(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the digest of all the rest of it."""
    predicate = document["predicate"]
    ours = {name: value for name, value in predicate["pv"].items() if name != "sha256"}
    bare = {**document, "predicate": {**predicate, "pv": ours}}
    return {**bare, "predicate": {**predicate, "pv": {**ours, "sha256": digest_of(bare)}}}


def _subject(subject: Subject) -> dict[str, Any]:
    return {
        "name": subject.name,
        "digest": {"sha256": subject.sha256},
        "annotations": {"role": subject.role},
    }


def _artifacts(answer: Answer, root: Path) -> list[dict[str, Any]]:
    """Files that the run says it measured: lines {"artifact": PATH} of its report, or pytest's record_property."""
    told = [event["artifact"] for event in answer.events if isinstance(event.get("artifact"), str)]
    recorded = answer.facts.get("artifact", [])
    told += recorded if isinstance(recorded, list) else [recorded]
    found = []
    for name in sorted(set(told)):
        path = root / name
        if os.path.isfile(path):  # what a program tells may be no path at all
            inside = path.resolve().is_relative_to(root.resolve())
            shown = path.resolve().relative_to(root.resolve()).as_posix() if inside else path.name
            digest = {"sha256": file_digest(path)}
            found.append({"name": shown, "digest": digest, "annotations": {"role": "artifact"}})
    return found


def _configuration(result: Result, project: Project) -> dict[str, Any]:
    path = Path(result.contract.path).absolute()
    root = project.root.absolute()
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    return {"name": name, "digest": {"sha256": file_digest(path)}}


def _ours(result: Result, answer: Answer, project: Project) -> dict[str, Any]:
    part = result.part
    return {
        "version": __version__,
        "contract": result.contract.stem,
        "id": part.id,
        "what": "falsification test" if isinstance(part, FalsificationTest) else "bounded proof",
        "live": isinstance(part, FalsificationTest) and part.live,
        "verdict": result.verdict.value,
        "why": result.why,
        "with_controls": result.with_controls,
        "controls": [_control(control) for control in result.controls],
        "run": _run(answer),
        "environment": {**project.environment, "devices": list(devices())},
        "started": _instant(result.start_unix_s),
        "ended": _instant(result.end_unix_s),
    }


def _run(answer: Answer) -> dict[str, Any]:
    """One execution; facts are what the test reported: seeds, counterexamples, its own figures."""
    told = {
        name: value
        for event in answer.events
        if "event" not in event
        for name, value in event.items()
        if name != "artifact"
    }
    return {
        "command": list(answer.command),
        "exit_code": answer.exit_code,
        "seconds": round(answer.seconds, 3),
        "counts": answer.counts.as_dict() if answer.counts else None,
        "figure": _figure(answer.figure),
        "facts": {**answer.facts, **told},
        "log": _log(answer),
    }


def _figure(figure: Measured | None) -> dict[str, Any] | None:
    if figure is None:
        return None
    values = list(figure.values)
    return {
        "value": figure.value,
        "op": figure.op,
        "limit": figure.limit,
        "unit": figure.unit,
        "values": values,
    }


def _log(answer: Answer) -> dict[str, Any] | None:
    if answer.output is None:
        return None
    return {
        "sha256": answer.output.sha256,
        "size_bytes": answer.output.size_bytes,
        "tail": answer.output.tail,
    }


def _control(control: Controlled) -> dict[str, Any]:
    run = {"run": _run(control.answer)} if control.answer is not None else {}
    return {"planted": control.planted, "verdict": control.verdict.value, "why": control.why, **run}


def _instant(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
