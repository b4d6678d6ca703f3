"""apr eval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from apr.cli.output import emit, format_option
from apr.cli.screen import screen
from apr.workflows.evaluating import evaluate_model


@click.command("eval")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dataset", type=click.Path(path_type=Path), help="Folder of token shards.")
@click.option("--text", type=click.Path(path_type=Path), help="File or folder of text.")
@click.option("--max-tokens", type=int, help="Predict at most so many tokens. [default: all]")
@click.option("--seq-length", type=int, help="Window. [default: 1024, or the model's limit]")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:N or auto.")
@click.option(
    "--dtype",
    type=click.Choice(["fp32", "bf16", "auto"]),
    default="fp32",
    show_default=True,
    help="Compute type.",
)
@click.option(
    "--document-mask",
    is_flag=True,
    help="Keep attention inside a document, as a run with --document-mask validates.",
)
@format_option
def eval_command(file: Path, output_format: str, **options: Any) -> None:
    """Measure a model's loss on held-out tokens or text.

    \b
    Example:
      apr eval model.apr --text book.txt
    """
    with screen() as shown:
        result = evaluate_model(file, on_progress=shown.phase, **options)
    emit(result, output_format, _render)


def _render(result: dict[str, Any]) -> str:
    spread = "" if result["standard_error"] is None else f" +- {result['standard_error']:.4f}"
    bits = "" if result["bits_per_byte"] is None else f", {result['bits_per_byte']:.4f} bits per byte"
    return (
        f"loss {result['loss']:.6f}{spread} nats per token, perplexity {result['perplexity']:.4f}{bits} "
        f"({result['num_tokens']:,} tokens in windows of {result['seq_length']:,})"
    )
