"""apr plan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from apr.cli.output import emit, format_option
from apr.cli.run_options import run_options, run_values
from apr.cli.screen import clock, screen
from apr.train.estimate import estimate
from apr.train.spec import RunSpec

_UNASKED_RUN_DIR = Path("run")  # never touched: only the free space of its disk is asked
_TERMS = {
    "weights": "fp32",
    "gradients": "",
    "moments": "two of the optimizer",
    "activations": "kept for the backward pass, with the compute type's copy of the matrices",
    "logits": "a chunk of them, and the head's gradient",
    "mask": "of documents, one value for a pair of tokens",
    "original": "weights that the rehearsal takes back",
    "snapshot": "for saving in the background",
    "allocator": "freed and not usable again",
    "process": "interpreter and libraries",
    "mapped": "pages of files, which the system takes back when it needs them",
}


@click.command("plan")
@run_options
@click.option("--why", is_flag=True, help="Show where each value came from.")
@format_option
def plan_command(
    output_format: str, why: bool, config: Path | None, assignments: tuple[str, ...], **options: Any
) -> None:
    """Show what a run would be and take, without building a model or writing anything.

    Takes the options of `apr pretrain`. The checkpoint, the shards and the plan are checked as a run checks them;
    memory follows from what the code allocates, time from a few seconds of measuring on this machine. A run that does
    not fit memory or disk is refused with exit code 1.

    \b
    Example:
      apr plan --init model.apr --dataset shards --num-steps 100 --batch-size 2 --seq-length 512 --why
    """
    spec = RunSpec(**run_values(config, assignments, options, run_dir=_UNASKED_RUN_DIR))
    show_plan(spec, output_format, why)


def show_plan(spec: RunSpec, output_format: str, why: bool) -> None:
    """Estimate a run and print what was found."""
    with screen(output_format) as reporter:
        result = estimate(spec, reporter)
    emit(result, output_format, lambda found: "\n".join(_lines(found, why)))


def _lines(result: dict[str, Any], why: bool) -> Iterator[str]:
    values = result["plan"]["values"]
    for name, item in {**result["inputs"], **values}.items():
        yield f"{name:20} {item['value']!s:16} {item['source'] if why else ''}".rstrip()
    steps, tokens = values["num_steps"]["value"], result["num_tokens"]
    yield ""
    trained = result["num_trainable"]
    part = "" if trained == result["num_parameters"] else f", trained {trained:,}"
    yield f"parameters           {result['num_parameters']:,}{part}"
    yield (
        f"tokens               {tokens:,} in {steps:,} steps, {result['corpus_epochs']:.2f} times the corpus "
        f"of {result['available_windows']:,} windows"
    )
    yield from _memory_lines(result["memory"])
    disk = result["disk"]
    yield f"disk                 {_size(disk['all'])}, of which a checkpoint is {_size(disk['checkpoint'])}"
    yield f"time per step        {result['seconds_per_step']:.2f} s, {result['tokens_per_sec']:,.0f} tokens/s"
    yield (
        f"time                 {clock(result['seconds'])} with a validation of "
        f"{result['seconds_per_validation']:.1f} s an epoch; step zero and saving not counted"
    )


def _memory_lines(memory: dict[str, Any]) -> Iterator[str]:
    available = memory["available"]
    free = "" if available is None else f", {_size(available)} free"
    yield f"memory               {_size(memory['peak'])} at the peak, {memory['at']}{free}"
    for name, text in _TERMS.items():
        if memory[name]:
            yield f"  {name:18} {_size(memory[name]):>10}  {text}".rstrip()


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f} GiB"
