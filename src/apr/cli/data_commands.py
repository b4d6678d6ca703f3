"""apr data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from apr.cli.output import emit, format_option
from apr.cli.screen import screen
from apr.cli.tokenize_commands import render_dataset, render_dedup
from apr.workflows.auditing import audit_dataset
from apr.workflows.tokenizing import merge


@click.group("data")
def data_group() -> None:
    """Join the parts of a dataset, and see what it holds."""


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


@data_group.command("audit")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--tokenizer",
    type=click.Path(path_type=Path),
    help="Folder, tokenizer.json or .apr; without it no text is shown, and unknown tokens are not counted.",
)
@format_option
def audit_command(folder: Path, tokenizer: Path | None, output_format: str) -> None:
    """Say what a dataset holds, after checking every byte of it.

    \b
    Example:
      apr data audit shards --tokenizer model.apr
    """
    with screen() as shown:
        result = audit_dataset(folder, tokenizer_path=tokenizer, on_progress=shown.phase)
    emit(result, output_format, _render_audit)


def _render_audit(result: dict[str, Any]) -> str:
    lines = [f"{result['path']}: digest {result['digest']:.12}, tokenizer {result['tokenizer_sha256']:.12}"]
    for source in result["sources"]:
        lines.append(
            f"  source {source['name']}: {source['num_tokens']:,} tokens of {source['num_documents']:,} documents "
            f"trained on, weight {source['weight']:g}"
        )
    if result["dedup"] is not None:
        lines.append(f"  {render_dedup(result['dedup'], result['path'])}")
    for side in result["sides"]:
        lines += _render_side(side)
    if len(result["sides"]) > 1:
        lines.append(f"held-out documents that are trained on too: {result['num_shared']:,}")
    return "\n".join(lines)


def _render_side(side: dict[str, Any]) -> list[str]:
    unknown = "not known" if side["num_unknown"] is None else f"{side['num_unknown']:,}"
    longest = ", ".join(f"{row['num_tokens']:,} (document {row['document']})" for row in side["longest"])
    rows = [
        ("tokens", f"{side['num_tokens']:,}"),
        (
            "documents",
            f"{side['num_documents']:,}, {side['num_duplicates']:,} of them duplicates of an earlier one",
        ),
        ("bytes per token", f"{side['bytes_per_token']:.3f}"),
        ("unigram entropy", f"{side['unigram_entropy_nats']:.4f} nats"),
        ("ids in use", f"{side['num_distinct_ids']:,} of {side['vocab_size']:,}"),
        ("unknown tokens", unknown),
        ("longest, in tokens", longest),
    ]
    rows += [(f"document {row['document']}", ascii(row["text"])) for row in side["samples"]]
    width = max(len(name) for name, _ in rows)
    return [f"{side['part']} ({side['path']})", *(f"  {name:{width}}  {value}" for name, value in rows)]
