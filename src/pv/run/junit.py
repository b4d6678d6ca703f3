"""Read from JUnit XML, as pytest writes it, what really ran."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.etree import ElementTree

from pv.run.answer import Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test that the file speaks of."""

    id: str  # the node id; the name that JUnit has for it when nobody noted one
    outcome: str  # passed, failed, error, skipped, xfailed
    says: str = field(repr=False)  # what the failure says
    properties: tuple[tuple[str, str], ...] = ()  # that the test recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Tests:
    """What a JUnit file says."""

    cases: tuple[Case, ...]

    def of(self, *outcomes: str) -> tuple[Case, ...]:
        """The cases with one of some outcomes."""
        return tuple(case for case in self.cases if case.outcome in outcomes)

    def counts(self, selected: int, xpassed: int) -> Counts:
        """The cases by outcome.

        Args:
            selected: how many were selected, says pytest.
            xpassed: how many of the passed are marked as ones that fail.
        """
        number = {name: len(self.of(name)) for name in ("passed", "failed", "error", "skipped", "xfailed")}
        return Counts(
            selected=selected,
            run=number["passed"] + number["failed"],
            passed=number["passed"],
            failed=number["failed"],
            errors=number["error"],
            skipped=number["skipped"],
            xfailed=number["xfailed"],
            xpassed=xpassed,
        )


def read_junit(data: bytes) -> Tests | None:
    """The tests of a JUnit file; None when it is none.

    Args:
        data: the bytes of the file.
    """
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError:
        return None
    return Tests(cases=tuple(_case(element) for element in root.iter("testcase")))


def _case(element: ElementTree.Element) -> Case:
    noted = [(p.get("name", ""), p.get("value", "")) for p in element.iter("property")]
    name = f"{element.get('classname', '')}.{element.get('name', '')}".strip(".")
    outcome, says = _outcome(element)
    return Case(
        id=dict(noted).get("pv.id", name),
        outcome=outcome,
        says=says,
        properties=tuple((key, value) for key, value in noted if not key.startswith("pv.")),
    )


def _outcome(element: ElementTree.Element) -> tuple[str, str]:
    """The worst that stands in a case: a test that passes and whose teardown breaks is an error."""
    for tag, outcome in (("error", "error"), ("failure", "failed"), ("skipped", "skipped")):
        found = element.find(tag)
        if found is not None:
            says = "\n".join(part for part in (found.get("message"), found.text) if part)
            return ("xfailed" if found.get("type") == "pytest.xfail" else outcome), says
    return "passed", ""
