"""apr pretrain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from apr.base.errors import BadOption, NotYet
from apr.cli.output import emit, format_option
from apr.cli.screen import clock, screen
from apr.train.estimate import estimate
from apr.train.pretrain import pretrain
from apr.train.spec import RunSpec

_LATER = "Comes with a later release; refused until then."


def _betas(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, float] | None:
    if value is None:
        return None
    try:
        first, second = (float(part) for part in value.split(","))
    except ValueError:
        raise BadOption(option="--betas", value=value, limit="two numbers such as 0.9,0.95") from None
    return first, second


def _later(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
    if value not in (None, False, ()):
        raise NotYet(option=parameter.opts[0])


def _missing(option: str) -> click.MissingParameter:
    context = click.get_current_context()
    return click.MissingParameter(ctx=context, param_hint=f"'{option}'", param_type="option")


@click.command("pretrain")
@click.option(
    "--init",
    type=click.Path(path_type=Path),
    help="Checkpoint (.apr) whose weights become the start. Absent: random weights.",
)
@click.option(
    "--mode",
    type=click.Choice(["finetune", "from-scratch"]),
    help="Sets lr, warm-up and target together: 5e-5, 100, 2.2 or 3e-4, 1000, 3.0. [default: finetune]",
)
@click.option(
    "--arch", metavar="NAME|FILE", help="Preset or JSON config of a run without --init. [default: llama-370m]"
)
@click.option(
    "--dataset",
    type=click.Path(path_type=Path),
    help="Folder of token shards (apr tokenize encode-corpus); needed unless --resume is given.",
)
@click.option(
    "--tokenizer",
    type=click.Path(path_type=Path),
    help="Folder, tokenizer.json or .apr. [default: the one inside --init]",
)
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path),
    help="Where everything about the run is written; must be new or empty, unless --resume is given.",
)
@click.option(
    "--num-steps",
    type=int,
    help="Optimizer steps, exactly. 0 stops after the step-0 evidence. [default: 1000]",
)
@click.option("--batch-size", type=int, help="Sequences of a micro-batch. [default: 16]")
@click.option("--seq-length", type=int, help="Tokens of a window. [default: 1024]")
@click.option("--grad-accum", type=int, help="Micro-batches of a step, weighed by tokens. [default: 1]")
@click.option("--steps-per-epoch", type=int, help="Steps between validations and checkpoints. [default: 100]")
@click.option("--lr", type=float, help="Peak learning rate. [default: by mode]")
@click.option("--warmup-steps", type=int, help="Steps to reach it. [default: by mode]")
@click.option(
    "--target-val-loss",
    type=float,
    help="At or below it the outcome is TARGET_MET, in nats. [default: by mode]",
)
@click.option(
    "--weight-decay", type=float, help="Of matrices; norms and biases do not decay. [default: 0.01]"
)
@click.option("--betas", callback=_betas, metavar="B1,B2", help="AdamW moments. [default: 0.9,0.95]")
@click.option("--grad-clip", type=float, help="Global gradient norm; 0 is off. [default: 1.0]")
@click.option(
    "--schedule",
    type=click.Choice(["cosine", "constant", "wsd"]),
    help="After the warm-up: fall to a tenth, stay and fall in the last fifth, or stay. [default: cosine]",
)
@click.option("--seed", type=int, help="Of initialisation, data order, everything. [default: 42]")
@click.option("--synthetic", is_flag=True, help="Scripted losses, no compute; every artifact says SYNTHETIC.")
@click.option(
    "--device", help="cpu, cuda, cuda:0 to cuda:15 or auto; only auto may fall back. [default: auto]"
)
@click.option(
    "--dtype",
    type=click.Choice(["auto", "fp32", "bf16"]),
    help="Compute type; weights and moments stay fp32. [default: auto]",
)
@click.option("--val-shard", type=click.Path(path_type=Path), help="Held-out shards. [default: DATASET/val]")
@click.option("--val-tokens", type=int, help="Validation tokens at most. [default: 8192]")
@click.option(
    "--allow-shard-cycle", is_flag=True, help="Let the run repeat the corpus when it is shorter than the run."
)
@click.option("--dry-run", is_flag=True, help="Check everything, print plan, memory and time, and exit.")
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the run in --run-dir, from its last saved state; its plan and inputs are known.",
)
@click.option(
    "--keep",
    metavar="all|last:N[,best]",
    help="Checkpoints that stay when newer ones are whole. [default: all]",
)
@click.option(
    "--save",
    type=click.Choice(["background", "blocking"]),
    help="background writes a copy while training goes on, and needs the memory for it. [default: background]",
)
@click.option("--config", type=click.Path(path_type=Path), callback=_later, expose_value=False, help=_LATER)
@click.option("--set", multiple=True, callback=_later, expose_value=False, metavar="A.B=C", help=_LATER)
@click.option("--document-mask", is_flag=True, callback=_later, expose_value=False, help=_LATER)
@format_option
def pretrain_command(output_format: str, dry_run: bool, run_dir: Path | None, **options: Any) -> None:
    """Train from a checkpoint, once it is proven to be that checkpoint.

    Before step 1 the file's digests, its config, every tensor, the tokenizer, the loss of the weights against the
    reference recorded at import, a random-weights control and the optimizer are judged; a table shows them and
    certificate.json keeps them. A single "no" ends the run with exit code 1 and no checkpoint.

    \b
    Example:
      apr pretrain --init model.apr --dataset shards --run-dir run --num-steps 100 \\
          --batch-size 2 --seq-length 512
    """
    if options["dataset"] is None and not options["resume"]:
        raise _missing("--dataset")
    if run_dir is None:
        if not dry_run:
            raise _missing("--run-dir")
        run_dir = Path("run")  # never touched by a dry run
    spec = RunSpec(run_dir=run_dir, **options)
    with screen(output_format) as reporter:
        result = estimate(spec, reporter) if dry_run else pretrain(spec, reporter)
    emit(result, output_format, _render_estimate if dry_run else lambda record: _render(record, run_dir))


def _render(record: dict[str, Any], run_dir: Path) -> str:
    kind = f"{record['kind']} " if "kind" in record else ""
    lines = [f"{kind}{record['outcome']} after {record['steps']:,} steps"]
    if record["final_val_loss"] is not None:
        before = record["certificate"]["step0"]["val_loss"]
        lines.append(f"validation loss {before:.4f} -> {record['final_val_loss']:.4f} nats per token")
    if record["tokens_per_sec"] is not None:
        lines.append(f"{record['tokens_per_sec']:,.0f} tokens/s")
    lines += [f"checkpoint {run_dir / name}" for name in record["checkpoints"][-1:]]
    return "\n".join([*lines, f"everything is in {run_dir}"])


def _render_estimate(result: dict[str, Any]) -> str:
    values = result["plan"]["values"]
    lines = [f"{name:20} {item['value']!s:16} {item['source']}" for name, item in values.items()]
    lines.append(f"parameters           {result['num_parameters']:,}")
    lines.append(f"training windows     {result['available_windows']:,} in the dataset")
    lines.append(f"memory               {result['memory_bytes'] / 2**30:.1f} GiB estimated")
    lines.append(
        f"time                 {clock(result['seconds'])} for {values['num_steps']['value']:,} steps, "
        "step zero and validation not counted"
    )
    return "\n".join(lines)
