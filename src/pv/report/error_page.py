"""Every error of pv, and the page of one, for a terminal and for the docs."""

from __future__ import annotations

import inspect
import re

# Their errors are listed by being imported; each of these modules is light.
import pv.change.errors
import pv.mined.errors
import pv.run.errors
import pv.survey.errors  # noqa: F401
from pv.errors import EXIT_NO, PvError, known_errors


def errors_by_name() -> dict[str, type[PvError]]:
    """Every error under its id and under its name."""
    return {name: kind for kind in known_errors().values() for name in (kind.id, error_name(kind))}


def error_name(kind: type[PvError]) -> str:
    """The name of an error as rules are named: path-missing."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()


def error_title(kind: type[PvError]) -> str:
    """What happened, in one sentence."""
    return (inspect.getdoc(kind) or "").partition("\n")[0]


def error_means(kind: type[PvError]) -> str:
    """What that means for somebody who meets it."""
    return " ".join((inspect.getdoc(kind) or "").partition("\n")[2].split())


def error_page(kind: type[PvError]) -> str:
    """The page of an error as Markdown.

    Args:
        kind: its class.
    """
    answer = "the answer is no" if kind.exit_code == EXIT_NO else "there is no answer"
    parts = [
        f"## {kind.id}: {error_name(kind)}",
        error_title(kind),
        f"*error; exit code {kind.exit_code}, {answer}*",
        error_means(kind),
        f"It says: {kind.text}",
        f"What to do: {kind.help}",
    ]
    return "\n\n".join(parts) + "\n"
