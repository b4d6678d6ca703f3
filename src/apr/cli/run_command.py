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
    told = _Continuation(prompt)
    result = generate_text(
        file,
        prompt,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        on_text=told.hear if output_format == "text" else None,
    )
    emit(result, output_format, lambda _: told.unsaid)


class _Continuation:
    """Writes the prompt and what follows it as it comes; a refusal, which comes before, leaves stdout empty."""

    def __init__(self, prompt: str) -> None:
        self.unsaid = prompt

    def hear(self, text: str) -> None:
        sys.stdout.write(self.unsaid + text)
        sys.stdout.flush()
        self.unsaid = ""
