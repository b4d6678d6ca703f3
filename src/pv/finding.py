"""A finding: what a rule says of a place in a file. Errors stop and are raised; findings report and are returned."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pv.tree.nodes import Place

_MAX_SHOWN = 100  # characters of the offending text


class Severity(StrEnum):
    """How bad a finding is: an error makes the contract invalid, a warning does not."""

    ERROR = "error"
    WARNING = "warning"

    @property
    def tag(self) -> str:
        """The word in the brackets of `pv validate`."""
        return {"error": "ERROR", "warning": "WARN"}[self.value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding."""

    rule: str
    severity: Severity
    path: str
    place: Place
    message: str  # the defect, one clause
    fix: str  # what to do, one clause
    text: str  # the offending text, shortened to a line
    allowed: str | None = None  # the reason of the suppression that covers it
    known: bool = False  # the baseline has it

    @property
    def counts(self) -> bool:
        """Whether it is to be acted on: neither suppressed nor known from the baseline."""
        return self.allowed is None and not self.known

    def as_dict(self) -> dict[str, Any]:
        """The finding for machines."""
        return {
            "rule": self.rule,
            "severity": self.severity.value,
            "path": self.path,
            "line": self.place.line,
            "column": self.place.column,
            "end_line": self.place.end_line,
            "end_column": self.place.end_column,
            "message": self.message,
            "fix": self.fix,
            "text": self.text,
            "allowed": self.allowed,
            "known": self.known,
        }


def excerpt(text: str, place: Place) -> str:
    """What stands at a place, as far as its first line goes.

    Args:
        text: the file.
        place: where.
    """
    lines = text.splitlines()
    if place.line > len(lines):
        return ""
    line = lines[place.line - 1]
    end = place.end_column - 1 if place.end_line == place.line else len(line)
    shown = line[place.column - 1 : end].strip()
    return shown if len(shown) <= _MAX_SHOWN else shown[: _MAX_SHOWN - 3] + "..."
