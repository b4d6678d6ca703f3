"""apr falsify."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from apr.base.errors import EXIT_NO, EXIT_OK, BadOption
from apr.cli.output import emit
from apr.cli.screen import screen
from apr.workflows.falsifying import catalogue, falsify

_FORMATS = ("text", "json", "md")


@click.command("falsify")
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option(
    "--dataset",
    type=click.Path(path_type=Path),
    help="Token shards of the model's tokenizer. [default: a part of Python's standard library, encoded here]",
)
@click.option(
    "--only", multiple=True, metavar="ID", help="Only these faults or controls; * stands for anything."
)
@click.option("--quick", is_flag=True, help="A representative part.")
@click.option("--list", "list_only", is_flag=True, help="List every fault and control, and plant none.")
@click.option(
    "--work-dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where the copies go: three times the model's size. [default: the system's temporary folder]",
)
@click.option(
    "--jobs",
    type=click.IntRange(0),
    default=0,
    help="Runs at once, each in a process of its own. [default: as many as cores and memory allow]",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(_FORMATS),
    default="text",
    show_default=True,
    help="json prints one JSON object on stdout, md a page.",
)
def falsify_command(
    model: Path | None,
    dataset: Path | None,
    only: tuple[str, ...],
    quick: bool,
    list_only: bool,
    work_dir: Path | None,
    jobs: int,
    output_format: str,
) -> int:
    """Plant known faults in copies of a checkpoint, and see that each is refused.

    Every fault has happened somewhere without a word. Each is planted alone: in a copy of the checkpoint, of its
    dataset, of a source folder made of it, or in the running program. Then apr import, apr pretrain or apr verify
    runs over it, with the code that you run. Healthy variations must not be refused. Exit code 1 when a fault is
    missed, or a healthy run is refused.

    \b
    Example:
      apr falsify model.apr --dataset shards --quick
      apr falsify model.apr --only 'forward.*'
    """
    if list_only:
        emit(catalogue(only), "json" if output_format == "json" else "text", _render_list)
        return EXIT_OK
    if model is None:
        raise BadOption(option="MODEL", value="(none)", limit="the .apr file to plant faults in")
    with screen() as reporter:
        result = falsify(
            model, reporter, dataset=dataset, only=only, quick=quick, work_dir=work_dir, jobs=jobs
        )
    emit(
        result,
        "json" if output_format == "json" else "text",
        _render_page if output_format == "md" else _render,
    )
    return EXIT_NO if result["missed"] or result["false_alarms"] else EXIT_OK


def _render(result: dict[str, Any]) -> str:
    lines = []
    for row in result["faults"]:
        lines.append(f"{row['caught_by'] or 'MISSED':20} {row['id']:34} {row['says']}")
        lines.append(f"{'':20} {row['message'] or 'nothing refused it'}")
    for row in result["controls"]:
        lines.append(f"{'FALSE ALARM' if row['alarm'] else 'healthy':20} {row['id']:34} {row['says']}")
        if row["alarm"]:
            lines.append(f"{'':20} {row['alarm']}")
    return "\n".join([*lines, "", _summary(result)])


def _summary(result: dict[str, Any]) -> str:
    told = [
        f"{result['caught']} of {result['planted']} planted faults caught",
        f"{len(result['false_alarms'])} of {result['healthy']} healthy runs refused",
        f"{result['seconds']:.0f} s",
    ]
    for key, word in (
        ("missed", "missed"),
        ("false_alarms", "false alarms"),
        ("by_another_gate", "by another gate"),
    ):
        if result[key]:
            told.append(f"{word}: {', '.join(result[key])}")
    return "; ".join(told)


def _render_page(result: dict[str, Any]) -> str:
    lines = [f"# Faults planted in {Path(result['model']).name}", "", _summary(result) + ".", ""]
    lines += [
        "| fault | what was planted | imitates | caught by | what the user sees |",
        "|---|---|---|---|---|",
    ]
    for row in result["faults"]:
        cells = (
            row["id"],
            row["says"],
            ", ".join(row["imitates"]),
            row["caught_by"] or "**missed**",
            row["message"] or "nothing refused it",
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += ["", "| healthy run | what differs | grade | outcome |", "|---|---|---|---|"]
    for row in result["controls"]:
        alarm = f"**refused**: {row['alarm']}" if row["alarm"] else "ran"
        lines.append(f"| {row['id']} | {row['says']} | {row['grade'] or '-'} | {alarm} |")
    return "\n".join(lines)


def _render_list(result: dict[str, Any]) -> str:
    rows = [
        f"{row['id']:34} {row['gate']:20} {','.join(row['imitates']):14} {row['says']}"
        for row in result["faults"]
    ]
    rows += [f"{row['id']:34} {'':20} {'':14} {row['says']}" for row in result["controls"]]
    return "\n".join([*rows, "", f"{len(result['faults'])} faults, {len(result['controls'])} healthy runs"])
