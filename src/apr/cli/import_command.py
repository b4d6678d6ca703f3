"""apr import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from apr.cli.output import emit, format_option
from apr.cli.screen import screen
from apr.workflows.importing import import_model


@click.command("import")
@click.argument("source")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The .apr file to make.")
@click.option(
    "--dtype",
    type=click.Choice(["keep", "f32", "bf16", "f16"]),
    default="keep",
    show_default=True,
    help="Stored type. keep loses nothing: 16- and 32-bit floats, Q4_K and Q6_K as they are, other types as f32.",
)
@click.option(
    "--tie",
    type=click.Choice(["auto", "yes", "no"]),
    default="auto",
    show_default=True,
    help="Is the output head the embedding? auto measures it and records the figures.",
)
@click.option(
    "--oracle",
    type=click.Choice(["transformers", "self", "none"]),
    default="transformers",
    show_default=True,
    help="Who computes the reference: grade A, B or none.",
)
@click.option("--tokenizer", type=click.Path(path_type=Path), help="Taken instead of the source's own.")
@click.option("--force", is_flag=True, help="Replace the output when it exists.")
@format_option
def import_command(
    source: str,
    output: Path,
    dtype: Any,
    tie: Any,
    oracle: str,
    tokenizer: Path | None,
    force: bool,
    output_format: str,
) -> None:
    """Make an .apr file from a GGUF file, a Hugging Face folder or a hub id.

    The file carries the config, the tokenizer, a digest of every tensor, and a reference: the loss and the hidden
    states that these weights must give, computed by the transformers library. apr pretrain refuses to start
    until its own forward pass gives the same.

    \b
    Examples:
      apr import model.gguf -o model.apr
      apr import hf://HuggingFaceTB/SmolLM2-135M -o smollm2.apr --dtype bf16
    """
    with screen() as shown:
        result = import_model(
            source,
            output,
            dtype=dtype,
            tie=tie,
            oracle=oracle,
            tokenizer_path=tokenizer,
            force=force,
            on_progress=shown.phase,
        )
    emit(result, output_format, _render)


def _render(result: dict[str, Any]) -> str:
    reference = result["reference"]
    told = "no reference recorded: runs from this file get grade C"
    if reference:
        told = (
            f"reference grade {reference['grade']}: loss {reference['loss']:.6f} nats over "
            f"{reference['num_tokens']} tokens, by {reference['oracle']}"
        )
    tied = f"{'tied' if result['tied'] else 'untied'} head ({result['tie']['rule']})"
    return "\n".join(
        [
            f"{result['path']}: {result['architecture']}, {result['parameter_count']:,} parameters "
            f"in {result['tensor_count']} tensors, {result['size_bytes'] / 1e6:,.0f} MB",
            tied,
            told,
        ]
    )
