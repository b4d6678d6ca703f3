"""Carry out one process of a runner, and read what it printed and reported."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from pv.run.answer import MAX_TAIL, Answer, Output, Said
from pv.run.process import Finished, run_process
from pv.run.project import INSIDE, Project

UNBLOCKED = "--unblock=open:{report}"  # lets a program under crosshair tell that it came to a planted defect
_MAX_REPORT_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Where and how a runner is executed: as it is, or with a defect planted."""

    project: Project
    root: Path  # the project's, or that of a copy
    env: Mapping[str, str] = field(default_factory=dict, repr=False)  # variables that are added
    stop: Event = field(default_factory=Event, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """A process that has ended, and what is left of it."""

    finished: Finished
    stdout: str = field(repr=False)
    output: Output
    events: tuple[Mapping[str, Any], ...]
    junit: bytes | None = field(repr=False)

    def event(self, name: str) -> Mapping[str, Any] | None:
        """The last event of a name; None without one."""
        return next((event for event in reversed(self.events) if event.get("event") == name), None)

    def answer(self, said: Said, why: str, argv: list[str], ground: Ground, **more: Any) -> Answer:
        """An answer that rests on this process."""
        return Answer(
            said=said,
            why=why,
            command=tuple(ground.project.shown(argv)),
            exit_code=self.finished.exit_code,
            seconds=self.finished.seconds,
            output=self.output,
            events=self.events,
            **more,
        )

    def no_answer(self, argv: list[str], ground: Ground) -> Answer | None:
        """An answer that says nothing, when the process did not end by itself; None when it did."""
        why = self.finished.no_answer
        facts = {"absent": True} if self.finished.missing else {}
        return self.answer(Said.NOTHING, why, argv, ground, facts=facts) if why else None


def execute(argv: list[str], ground: Ground, timeout_s: float) -> Executed:
    """Run a program on a ground; the arguments `{junit}` and UNBLOCKED get the paths of files that are read back.

    Args:
        argv: the program and its arguments.
        ground: where.
        timeout_s: after which it is killed.
    """
    with tempfile.TemporaryDirectory(prefix="pv-") as name:
        folder = Path(name)
        junit, report = folder / "junit.xml", folder / "report"
        files = {"{junit}": str(junit), UNBLOCKED: UNBLOCKED.replace("{report}", str(report))}
        filled = [files.get(word, word) for word in argv]
        env = ground.project.env({**ground.env, "PV_REPORT": str(report)})
        finished = run_process(
            filled, cwd=ground.root, env=env, timeout_s=timeout_s, folder=folder, stop=ground.stop
        )
        text = _without_paths(finished.text(), ground)
        return Executed(
            finished=finished,
            stdout=finished.text("stdout"),
            output=_output(finished, text),
            events=tuple(_events(report)),
            junit=junit.read_bytes() if junit.exists() else None,
        )


def _without_paths(text: str, ground: Ground) -> str:
    """What was printed, without the paths of this machine: it is kept in evidence."""
    for path in (str(ground.root), str(ground.project.root), str(INSIDE.parent.parent)):
        text = text.replace(path + os.sep, "").replace(path, ".")
    return text


def _output(finished: Finished, text: str) -> Output:
    digest, size = hashlib.sha256(), 0
    for path in (finished.stdout, finished.stderr):
        data = path.read_bytes()
        digest.update(data)
        size += len(data)
    return Output(sha256=digest.hexdigest(), size_bytes=size, tail=text[-MAX_TAIL:])


def _finite(text: str) -> float | str:
    """A number of a report; NaN and what is beyond every float stay texts, because evidence is JSON."""
    value = float(text)
    return value if math.isfinite(value) else text


def _events(report: Path) -> list[Mapping[str, Any]]:
    """The lines of a report that are objects; a test may write its own, and a line cut short is left out."""
    if not report.exists():
        return []
    events: list[Mapping[str, Any]] = []
    for line in report.read_bytes()[:_MAX_REPORT_BYTES].splitlines():
        try:
            event = json.loads(line, parse_constant=str, parse_float=_finite)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            events.append(event)
    return events
