"""apr demo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from apr.cli.output import emit, format_option
from apr.cli.screen import screen
from apr.workflows.demo import run_demo


@click.command("demo")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default="demo",
    show_default=True,
    help="Folder for everything that is made; each run gets its own run directory there.",
)
@click.option("--num-steps", type=int, default=20, show_default=True, help="Optimizer steps.")
@click.option(
    "--oracle",
    type=click.Choice(["transformers", "self"]),
    default="transformers",
    show_default=True,
    help="Who computes the reference of the import: grade A or B.",
)
@format_option
def demo_command(output: Path, num_steps: int, oracle: str, output_format: str) -> None:
    """Continue the pretraining of a real 135M model in a few minutes.

    Fetches SmolLM2-135M-Instruct (98 MB, kept in the cache), imports it with its reference, encodes the source
    of the Python standard library that is running this, trains from it, and shows the step-0 table, the loss before
    and after, a sample, and where everything lies.

    \b
    Example:
      apr demo -o demo
    """
    with screen() as shown:
        result = run_demo(output, num_steps, oracle, shown)
    emit(result, output_format, _render)


def _render(result: dict[str, Any]) -> str:
    before, after = result["step0_val_loss"], result["final_val_loss"]
    return "\n".join(
        [
            "",
            f"{result['model']}: {result['num_steps']} steps on {result['corpus']}",
            f"validation loss {before:.4f} -> {after:.4f} nats per token (change {after - before:+.4f})",
            f"the same model with random weights: {result['random_init_loss']:.4f}",
            f"certificate grade {result['grade']}: the probe's loss is {result['reference_delta']:.1e} nats "
            "from the reference",
            f"{result['tokens_per_sec']:,.0f} tokens/s, {result['seconds']:.0f} s in all",
            "",
            "a sample after training (temperature 0):",
            *(f"    {line}" for line in (result["prompt"] + result["sample"]).splitlines()),
            "",
            f"model       {result['model_path']}",
            f"shards      {result['dataset_path']}",
            f"run         {result['run_dir']}  (certificate.json, metrics.jsonl, ckpt/)",
            f"checkpoint  {result['checkpoint']}",
            "next        apr pretrain --help, or README.md for the same with your own model",
        ]
    )
