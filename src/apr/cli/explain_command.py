"""apr explain."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import click

# Their errors are listed by being imported; each of these modules is light.
import apr.aprfile.errors
import apr.arch.errors
import apr.convert.errors
import apr.data.errors
import apr.model.errors
import apr.stepzero.errors
import apr.stepzero.verify_errors
import apr.tokenizer.errors
import apr.train.errors  # noqa: F401
from apr.base.errors import EXIT_NO_ANSWER, AprError, known_errors
from apr.cli.output import emit, format_option


@dataclass(kw_only=True, eq=False)
class ErrorIdUnknown(AprError):
    """No error has that id."""

    id = "APR006"
    text = "no error has the id {error_id}"
    help = "`apr explain` lists those that there are"
    exit_code = EXIT_NO_ANSWER
    error_id: str


@click.command("explain")
@click.argument("error_id", required=False)
@format_option
def explain_command(error_id: str | None, output_format: str) -> None:
    """Explain an error id.

    \b
    Example:
      apr explain APR101
    """
    known = known_errors()
    if error_id is None:
        emit(
            {"errors": [describe(kind) for kind in known.values()]},
            output_format,
            lambda result: "\n".join(f"{row['id']}  {row['summary']}" for row in result["errors"]),
        )
        return
    if error_id.upper() not in known:
        raise ErrorIdUnknown(error_id=error_id)
    emit(
        describe(known[error_id.upper()]),
        output_format,
        lambda row: "{id} {name}: {summary}\n  says: {text}\n  do:   {help}\n  exit code {exit_code}".format(
            **row
        ),
    )


def describe(kind: type[AprError]) -> dict[str, Any]:
    """An error class as a page: {id, name, summary, text, help, exit_code}."""
    return {
        "id": kind.id,
        "name": kind.__name__,
        "summary": (inspect.getdoc(kind) or "").splitlines()[0],
        "text": kind.text,
        "help": kind.help,
        "exit_code": kind.exit_code,
    }
