"""apr pretrain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from apr.base.errors import EXIT_OK, AprError, Interrupted
from apr.base.processes import process_place
from apr.cli.output import emit, format_option
from apr.cli.plan_command import show_plan
from apr.cli.run_options import run_options, run_values
from apr.cli.screen import screen
from apr.train.pretrain import pretrain
from apr.train.reporter import Silent
from apr.train.spec import RunSpec


@click.command("pretrain")
@run_options
@click.option("--dry-run", is_flag=True, help="Do as `apr plan` does, and exit.")
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the run in --run-dir, from its last saved state; its plan and inputs are known.",
)
@format_option
def pretrain_command(
    output_format: str, dry_run: bool, config: Path | None, assignments: tuple[str, ...], **options: Any
) -> int | None:
    """Train from a checkpoint, once it is proven to be that checkpoint.

    Before step 1 the file's digests, its config, every tensor, the tokenizer, the loss of the weights against the
    reference recorded at import, a random-weights control and the optimizer are judged; a table shows them and
    certificate.json keeps them. A single "no" ends the run with exit code 1 and no checkpoint.

    \b
    Example:
      apr pretrain --init model.apr --dataset shards --run-dir run --num-steps 100 \\
          --batch-size 2 --seq-length 512
    """
    unasked = Path("run") if dry_run else None  # a dry run never touches it
    spec = RunSpec(**run_values(config, assignments, options, run_dir=unasked))
    if dry_run:
        show_plan(spec, output_format, why=False)
        return None
    if rank := process_place().rank:
        return _pretrain_beside(spec, rank)
    with screen(output_format) as reporter:
        record = pretrain(spec, reporter)
    emit(record, output_format, lambda found: _render(found, spec.run_dir))
    return None


def _pretrain_beside(spec: RunSpec, rank: int) -> int:
    """Be another process of a run, of which the first one tells: only what stops this one is said, on stderr."""
    try:
        pretrain(spec, Silent())
    except Interrupted as error:
        return error.exit_code
    except AprError as error:
        click.echo(f"process {rank}: {error}", err=True)
        return error.exit_code
    return EXIT_OK


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
