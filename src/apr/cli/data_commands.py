"""apr data."""

from __future__ import annotations

from pathlib import Path

import click

from apr.cli.output import emit, format_option
from apr.cli.screen import screen
from apr.cli.tokenize_commands import render_dataset
from apr.workflows.tokenizing import merge


@click.group("data")
def data_group() -> None:
    """Join the parts of a dataset."""


@data_group.command("merge")
@click.argument("parts", metavar="PART...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of shards to make; validation goes to its val/.",
)
@click.option("--force", is_flag=True, help="Replace a dataset that is there.")
@format_option
def merge_command(parts: tuple[Path, ...], output: Path, force: bool, output_format: str) -> None:
    """Make of all parts of a corpus the dataset that one run would have given.

    The parts come from `apr tokenize encode-corpus --part I/N`, may be given in any order, and are left as they are.

    \b
    Example:
      apr data merge part-1 part-2 -o merged
    """
    with screen() as shown:
        result = merge(list(parts), output, force=force, on_progress=shown.phase)
    emit(result, output_format, render_dataset)
