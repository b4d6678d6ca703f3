"""apr explain."""

from __future__ import annotations

import inspect
from typing import Any

import click

# Their errors are listed by being imported; each of these modules is light.
import apr.aprfile.errors
import apr.arch.errors
import apr.convert.errors
import apr.data.errors
import apr.model.errors
import apr.stepzero.errors
import apr.tokenizer.errors
import apr.train.errors  # noqa: F401
from apr.base.errors import AprError, BadOption, known_errors
from apr.cli.output import emit, format_option


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
        raise BadOption(option="error id", value=error_id, limit="known; `apr explain` lists them")
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
