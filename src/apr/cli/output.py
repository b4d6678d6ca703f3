"""Results on stdout, talk on stderr, errors as one sentence; JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import click

from apr.base.errors import EXIT_NO_ANSWER, AprError
from apr.stepzero.gate import json_value

format_option = click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json prints one JSON object on stdout.",
)


@dataclass(kw_only=True, eq=False)
class UsageWrong(AprError):
    """The command line does not parse."""

    id = "APR005"
    text = "{what}"
    help = "see `{command} --help`"
    exit_code = EXIT_NO_ANSWER
    what: str
    command: str


def wants_json(arguments: list[str]) -> bool:
    """Whether --format json was given, also when the rest of the line does not parse."""
    return "--format=json" in arguments or ("--format", "json") in set(pairwise(arguments))


def emit(result: dict[str, Any], output_format: str, render: Callable[[dict[str, Any]], str]) -> None:
    """Print a result as one JSON object or as text."""
    text = _json(result) if output_format == "json" else render(result)
    encoding = sys.stdout.encoding or "utf-8"
    # A file name may hold bytes that are no text: they are spelled out rather than refused after the work is done.
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def print_error(error: AprError, as_json: bool) -> None:
    """Print an error: a sentence on stderr, and with --format json an object on stdout."""
    if as_json:
        facts = {key: value if _is_plain(value) else str(value) for key, value in error.facts.items()}
        document = {"id": error.id, "message": error.message, "help": error.advice, "facts": facts}
        print(_json({"error": document}))
    print(f"apr: {error}", file=sys.stderr)


def _json(value: dict[str, Any]) -> str:
    # ASCII: whatever the encoding of stdout, a machine reads the same
    return json.dumps(json_value(value), allow_nan=False)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)
