"""The options that `apr pretrain` and `apr plan` share: one definition, one meaning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from apr.base.errors import BadOption
from apr.train.run_file import asked_values
from apr.train.settings import words

Command = TypeVar("Command", bound=Callable[..., Any])


def _betas(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, float] | None:
    if value is None:
        return None
    try:
        first, second = (float(part) for part in value.split(","))
    except ValueError:
        raise BadOption(option="--betas", value=value, limit="two numbers such as 0.9,0.95") from None
    return first, second


def _globs(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...] | None:
    return value or None  # none is not asked, and a run file may say


def _names(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...] | None:
    return words(value)


_OPTIONS = (
    click.option(
        "--init",
        type=click.Path(path_type=Path),
        help="Checkpoint (.apr) whose weights become the start. Absent: random weights.",
    ),
    click.option(
        "--mode",
        type=click.Choice(["finetune", "from-scratch"]),
        help="Sets lr, warm-up and target together: 5e-5, 100, 2.2 or 3e-4, 1000, 3.0. [default: finetune]",
    ),
    click.option(
        "--arch",
        metavar="NAME|FILE",
        help="Preset or JSON config of a run without --init. [default: llama-370m]",
    ),
    click.option(
        "--dataset",
        type=click.Path(path_type=Path),
        help="Folder of token shards (apr tokenize encode-corpus); needed unless --resume is given.",
    ),
    click.option(
        "--tokenizer",
        type=click.Path(path_type=Path),
        help="Folder, tokenizer.json or .apr. [default: the one inside --init]",
    ),
    click.option(
        "--run-dir",
        type=click.Path(path_type=Path),
        help="Where everything about the run is written; must be new or empty, unless --resume is given.",
    ),
    click.option(
        "--num-steps",
        type=int,
        help="Optimizer steps, exactly. 0 stops after the step-0 evidence. [default: 1000]",
    ),
    click.option("--batch-size", type=int, help="Sequences of a micro-batch. [default: 16]"),
    click.option("--seq-length", type=int, help="Tokens of a window. [default: 1024]"),
    click.option("--grad-accum", type=int, help="Micro-batches of a step, weighed by tokens. [default: 1]"),
    click.option(
        "--steps-per-epoch", type=int, help="Steps between validations and checkpoints. [default: 100]"
    ),
    click.option("--lr", type=float, help="Peak learning rate. [default: by mode]"),
    click.option("--warmup-steps", type=int, help="Steps to reach it. [default: by mode]"),
    click.option(
        "--target-val-loss",
        type=float,
        help="At or below it the outcome is TARGET_MET, in nats. [default: by mode]",
    ),
    click.option(
        "--weight-decay", type=float, help="Of matrices; norms and biases do not decay. [default: 0.01]"
    ),
    click.option("--betas", callback=_betas, metavar="B1,B2", help="AdamW moments. [default: 0.9,0.95]"),
    click.option("--grad-clip", type=float, help="Global gradient norm; 0 is off. [default: 1.0]"),
    click.option(
        "--schedule",
        type=click.Choice(["cosine", "constant", "wsd"]),
        help="After the warm-up: fall to a tenth, stay and fall in the last fifth, or stay. [default: cosine]",
    ),
    click.option(
        "--spike",
        metavar="off|abort|skip:N",
        help="On a loss or gradient norm far above those before: end the run, or leave out up to N updates. "
        "[default: off]",
    ),
    click.option(
        "--spike-threshold",
        type=float,
        help="Robust standard deviations above the median of the window that make a spike. [default: 6.0]",
    ),
    click.option(
        "--spike-window",
        type=int,
        help="Updates that a step is held against, once half of them are made. [default: 128]",
    ),
    click.option("--seed", type=int, help="Of initialisation, data order, everything. [default: 42]"),
    click.option(
        "--synthetic", is_flag=True, help="Scripted losses, no compute; every artifact says SYNTHETIC."
    ),
    click.option(
        "--device", help="cpu, cuda, cuda:0 to cuda:15 or auto; only auto may fall back. [default: auto]"
    ),
    click.option(
        "--dtype",
        type=click.Choice(["auto", "fp32", "bf16"]),
        help="Compute type; weights and moments stay fp32. [default: auto]",
    ),
    click.option(
        "--val-shard", type=click.Path(path_type=Path), help="Held-out shards. [default: DATASET/val]"
    ),
    click.option("--val-tokens", type=int, help="Validation tokens at most. [default: 8192]"),
    click.option(
        "--allow-shard-cycle",
        is_flag=True,
        help="Let the run repeat the corpus when it is shorter than the run.",
    ),
    click.option(
        "--freeze",
        multiple=True,
        callback=_globs,
        metavar="GLOB",
        help="Tensors that are not trained, by name, such as 'model.layers.[0-3].*'; may be given more than once.",
    ),
    click.option(
        "--lora",
        metavar="r=R[,alpha=A][,targets=T,...]",
        help="Train adapters of rank R instead of the weights. Targets: q, k, v, o, gate, up, down. "
        "[default: alpha is 2 R, targets are q,k,v,o]",
    ),
    click.option(
        "--document-mask",
        is_flag=True,
        help="Keep attention inside a document, in training and validation; needs shards with separators.",
    ),
    click.option(
        "--keep",
        metavar="all|last:N[,best]",
        help="Checkpoints that stay when newer ones are whole. [default: all]",
    ),
    click.option(
        "--save",
        type=click.Choice(["background", "blocking"]),
        help="background writes a copy while training goes on, and needs the memory for it. [default: background]",
    ),
    click.option(
        "--log",
        multiple=True,
        callback=_names,
        metavar="NAME[,NAME]",
        help="tensorboard, trackio or wandb, beside metrics.jsonl; each is an extra of the same name.",
    ),
    click.option(
        "--config",
        type=click.Path(path_type=Path),
        help="TOML run file with sections [model], [data], [optimizer], [run]; its paths are relative to it.",
    ),
    click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="SECTION.KEY=VALUE",
        help="A setting of the run file, given here; wins over the file, and an option wins over both.",
    ),
)


def run_options(command: Command) -> Command:
    """Give a command every option of a run."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def run_values(
    config: Path | None, assignments: tuple[str, ...], options: dict[str, Any], *, run_dir: Path | None = None
) -> dict[str, Any]:
    """Merge options, --set and run file into the fields of a RunSpec.

    Args:
        config, assignments, options: as the options above give them.
        run_dir: the run directory where none is asked for; None when it must be.

    Raises:
        MissingParameter: no dataset, or no run directory where one is needed.
        AprError: whatever is wrong with the run file or --set.
    """
    values = asked_values(config, assignments, options)
    if values["run_dir"] is None and run_dir is not None:
        values["run_dir"], values["places"]["run_dir"] = run_dir, "default"
    for name in ("dataset", "run_dir"):
        if values[name] is None and not (name == "dataset" and values.get("resume")):
            context, hint = click.get_current_context(), f"'--{name.replace('_', '-')}'"
            raise click.MissingParameter(ctx=context, param_hint=hint, param_type="option")
    return values
