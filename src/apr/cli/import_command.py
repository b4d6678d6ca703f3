"""apr import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from apr.cli.output import emit, format_option
from apr.cli.screen import screen
from apr.workflows.importing import import_model

_NUM_SHOWN = 5  # findings on a screen


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
@click.option(
    "--expect-sha256",
    metavar="HEX",
    help="Refuse weights with another sha256; for a source whose weights are one file.",
)
@click.option(
    "--manifest",
    type=click.Path(path_type=Path),
    help="Refuse files with another sha256 than this lists (as sha256sum prints, or JSON), or that it lacks.",
)
@click.option(
    "--accept",
    type=click.Choice(["zero", "constant", "duplicated"]),
    multiple=True,
    help="These findings are meant to be there: apr pretrain refuses others. Repeatable.",
)
@click.option("--force", is_flag=True, help="Replace the output when it exists.")
@format_option
def import_command(
    source: str,
    output: Path,
    dtype: Any,
    tie: Any,
    oracle: str,
    tokenizer: Path | None,
    expect_sha256: str | None,
    manifest: Path | None,
    accept: Any,
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
            expect_sha256=expect_sha256,
            manifest_path=manifest,
            accepted=tuple(dict.fromkeys(accept)),
            force=force,
            on_progress=shown.phase,
        )
        for line in _told(result):
            shown.note(line)
    emit(result, output_format, _render)


def _told(result: dict[str, Any]) -> list[str]:
    """The findings: the first, how many there are, and what becomes of those that nobody accepted."""
    findings = result["findings"]
    lines = [f"finding: {finding['rule']}: {finding['message']}" for finding in findings[:_NUM_SHOWN]]
    if len(findings) > _NUM_SHOWN:
        lines.append(f"finding: {len(findings):,} in all; --format json lists every one")
    rules = {finding["rule"] for finding in findings} - set(result["accepted"])
    if rules:
        given = " ".join(f"--accept {rule}" for rule in sorted(rules))
        lines.append(f"where this is meant to be so import again with {given}, or apr pretrain refuses it")
    return lines


def _render(result: dict[str, Any]) -> str:
    reference = result["reference"]
    told = "no reference recorded: runs from this file get grade C"
    if reference:
        told = (
            f"reference grade {reference['grade']}: loss {reference['loss']:.6f} nats over "
            f"{reference['num_tokens']} tokens, by {reference['oracle']}"
        )
    trust = result["trust"]
    num_files = len(trust["checked"]) + len(trust["unchecked"])
    tied = f"{'tied' if result['tied'] else 'untied'} head ({result['tie']['rule']})"
    return "\n".join(
        [
            f"{result['path']}: {result['architecture']}, {result['parameter_count']:,} parameters "
            f"in {result['tensor_count']} tensors, {result['size_bytes'] / 1e6:,.0f} MB",
            tied,
            told,
            f"trust by {trust['root']}, {len(trust['checked'])} of {num_files} files checked: {trust['says']}",
        ]
    )
