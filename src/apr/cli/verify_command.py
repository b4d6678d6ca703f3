"""apr verify."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from apr.base.errors import EXIT_OK
from apr.cli.output import emit, format_option, print_error
from apr.cli.screen import screen
from apr.workflows.verifying import in_words, refusal_of, verify

_MAX_SHOWN = 60  # characters of one value in the list


@click.command("verify")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--init", type=click.Path(path_type=Path), help="The checkpoint that the run started from.")
@click.option("--dataset", type=click.Path(path_type=Path), help="The shards that it was trained on.")
@click.option("--val-shard", type=click.Path(path_type=Path), help="The run's own --val-shard.")
@format_option
def verify_command(
    path: Path, init: Path | None, dataset: Path | None, val_shard: Path | None, output_format: str
) -> int:
    """Check a run directory or a certificate against its own bytes and digests.

    \b
    Example:
      apr verify run --init model.apr --dataset shards
    """
    with screen() as shown:
        result = verify(path, init=init, dataset=dataset, val_shard=val_shard, on_progress=shown.phase)
    refusal = refusal_of(path, result)
    if refusal is None:
        emit(result, output_format, _render)
        return EXIT_OK
    error = {"id": refusal.id, "message": refusal.message, "help": refusal.advice, "facts": refusal.facts}
    emit({**result, "error": error}, output_format, _render)
    print_error(refusal, as_json=False)  # stdout has it already, in the one object
    return refusal.exit_code


def _render(result: dict[str, Any]) -> str:
    width = max(len(check["id"]) for check in result["checks"])
    lines = [f"{check['verdict']:9}  {check['id']:{width}}  {_told(check)}" for check in result["checks"]]
    lines += [f"not re-derived: {claim}" for claim in result["not_rederived"]]
    counts = {
        word: sum(c["verdict"] == word for c in result["checks"]) for word in ("yes", "no", "not known")
    }
    told = ", ".join(f"{count} {word}" for word, count in counts.items())
    return "\n".join([*lines, f"{result['verdict']}: {told}; certificate {result['digest'] or 'none'}"])


def _told(check: dict[str, Any]) -> str:
    if check["verdict"] == "yes":
        return str(check["claim"])
    found, expected = (_cut(in_words(check[name])) for name in ("found", "expected"))
    word = "needs" if check["verdict"] == "not known" else "expected"
    return f"{check['claim']}: found {found}, {word} {expected}"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
