"""apr run."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from apr.cli.output import emit, format_option
from apr.workflows.generating import generate_text


@click.command("run")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("prompt")
@click.option(
    "-n", "--max-new-tokens", type=int, default=64, show_default=True, help="Tokens to make at most."
)
@click.option(
    "--temperature", type=float, default=0.0, show_default=True, help="0 takes the likeliest token."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the sampling.")
@format_option
def run_command(
    file: Path, prompt: str, max_new_tokens: int, temperature: float, seed: int, output_format: str
) -> None:
    """Continue a prompt.

    \b
    Example:
      apr run model.apr "def fibonacci(n):" -n 64
    """
    streams = output_format == "text"
    if streams:
        print(prompt, end="", flush=True)
    result = generate_text(
        file,
        prompt,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        on_text=_write if streams else None,
    )
    emit(result, output_format, lambda _: "")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
