"""The runner `pytest:`. Every test that is named must have run and passed: a skip or an empty selection is no pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pv.contract.runner import PytestRunner
from pv.run.answer import Answer, Counts, Said
from pv.run.execution import Executed, Ground, execute
from pv.run.junit import Case, Tests, read_junit

_EXIT_OK, _EXIT_FAILED = 0, 1


def run_pytest(runner: PytestRunner, ground: Ground, timeout_s: float) -> Answer:
    """Run the named tests.

    Args:
        runner: which.
        ground: where.
        timeout_s: for all of them.
    """
    argv = ground.project.inside("tests.py", "{junit}", *runner.node_ids)
    done = execute(argv, ground, timeout_s)
    shown = [word for word in argv if word != "{junit}"]
    tests = read_junit(done.junit) if done.junit else None
    if done.no_answer(shown, ground) is not None or tests is None:
        why = done.finished.no_answer or _without_file(done)
        return done.answer(Said.NOTHING, why, shown, ground)
    xpassed = {str(event.get("id")) for event in done.events if event.get("event") == "xpass"}
    selected = _told(done, "selected")
    counts = tests.counts(selected, len(xpassed))
    said, why = _judged(runner, tests, counts, xpassed, done)
    failures = tests.of("failed")
    return done.answer(
        said, why, shown, ground,
        asserted=said is Said.FAILED and _asserted(failures, done),
        says="\n".join(case.says for case in tests.of("failed", "error")),
        counts=counts,
        passed=tuple(case.id for case in tests.of("passed")),
        failed=tuple(case.id for case in tests.of("failed", "error")),
        facts=_facts(tests),
    )  # fmt: skip


def _without_file(done: Executed) -> str:
    ended = done.event("ended")
    if ended is not None and ended.get("how") == "unimportable":
        return f"pytest cannot be imported there ({ended.get('says')})"
    return f"pytest ended with exit code {done.finished.exit_code} and left no JUnit file"


def _told(done: Executed, event: str) -> int:
    """How many tests pytest says it selected, or took away; a line of the test's own that looks alike is none."""
    counts = [told.get("count") for told in done.events if told.get("event") == event]
    return sum(count for count in counts if isinstance(count, int))


def _judged(
    runner: PytestRunner, tests: Tests, counts: Counts, xpassed: set[str], done: Executed
) -> tuple[Said, str]:
    """What the tests say together; the first of these that applies."""
    if counts.failed:
        return Said.FAILED, f"{_first(tests.of('failed'))} failed ({counts.failed} of {counts.run} run)"
    if counts.errors:
        return Said.NOTHING, f"{_first(tests.of('error'))} broke outside of the test itself"
    if counts.selected == 0 or not tests.cases:
        return Said.NOTHING, "no test was selected"
    if counts.run == 0:
        return Said.NOTHING, f"no test ran: {counts.skipped} skipped, {counts.xfailed} expected to fail"
    return _passed(runner, tests, counts, xpassed, done)


def _passed(
    runner: PytestRunner, tests: Tests, counts: Counts, xpassed: set[str], done: Executed
) -> tuple[Said, str]:
    """Whether tests of which none failed are all that was named."""
    if counts.skipped or counts.xfailed:
        what = f"{counts.skipped} skipped, {counts.xfailed} expected to fail"
        return Said.NOTHING, f"only {counts.passed} of {counts.selected} tests ran: {what}"
    if xpassed:
        return Said.NOTHING, f"{min(xpassed)} is marked xfail, so that its failing would not count"
    for node_id in runner.node_ids:
        if not any(_is_of(case.id, node_id) for case in tests.of("passed")):
            return Said.NOTHING, f"no test of {node_id} ran"
    if deselected := _told(done, "deselected"):
        why = f"the project's options or its conftest.py left out {deselected} of the named tests"
        return Said.NOTHING, why
    if counts.passed < counts.selected:
        return Said.NOTHING, f"only {counts.passed} of {counts.selected} selected tests are in the JUnit file"
    if done.finished.exit_code != _EXIT_OK:
        return Said.NOTHING, f"all tests passed and pytest ended with exit code {done.finished.exit_code}"
    return Said.HELD, f"{counts.passed} of {counts.selected} tests passed"


def _is_of(case_id: str, node_id: str) -> bool:
    return case_id == node_id or case_id.startswith((f"{node_id}[", f"{node_id}::"))


def _first(cases: tuple[Case, ...]) -> str:
    return cases[0].id


def _asserted(failures: tuple[Case, ...], done: Executed) -> bool:
    """Whether one of the failures is an assertion in the test itself."""
    ids = {case.id for case in failures}
    return any(
        event.get("asserted") is True and event.get("when") == "call" and event.get("id") in ids
        for event in done.events
        if event.get("event") == "raised"
    )


def _facts(tests: Tests) -> Mapping[str, Any]:
    """What the tests recorded with pytest's record_property, each value once."""
    facts: dict[str, Any] = {}
    for case in tests.cases:
        for name, value in case.properties:
            held = facts.setdefault(name, value)
            if held != value:
                facts[name] = sorted({*(held if isinstance(held, list) else [held]), value})
    return facts
