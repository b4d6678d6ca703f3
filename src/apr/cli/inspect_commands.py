"""apr inspect and apr tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from apr.cli.output import emit, format_option
from apr.workflows.inspecting import inspect_file, list_tensors

_file = click.argument("file", type=click.Path(path_type=Path))


@click.command("inspect")
@_file
@format_option
def inspect_command(file: Path, output_format: str) -> None:
    """Show what an .apr file is, after checking every byte of it.

    \b
    Example:
      apr inspect model.apr
    """
    emit(inspect_file(file), output_format, lambda result: _render(file, result))


def _render(file: Path, result: dict[str, Any]) -> str:
    rows: list[tuple[str, str]] = [
        ("format", f"{result['format']} (dialect {result['dialect']}), {result['size_bytes']:,} bytes"),
        ("architecture", result["architecture"]),
        ("parameters", f"{result['parameter_count']:,} in {result['tensor_count']} tensors"),
        ("head", "tied to the embedding" if result["tied"] else "untied"),
    ]
    rows += [(name, str(value)) for name, value in result["config"].items()]
    reference = result["reference"]
    rows.append(
        (
            "reference",
            f"grade {reference['grade']}, loss {reference['loss']:.6f} over {reference['num_tokens']} tokens, "
            f"{reference['oracle']}"
            if reference
            else "none",
        )
    )
    trust = result["trust"]
    rows.append(("held against", f"{trust['root']}: {trust['says']}" if trust else "not recorded"))
    rows += [("finding", finding["message"]) for finding in result["findings"]]
    rows += [("accepted", rule) for rule in result["accepted"]]
    if result["lineage"]:
        rows.append(
            ("lineage", f"step {result['lineage']['step']:,} from {result['lineage']['init_digest']}")
        )
    rows += [(f"checksum {name}", state) for name, state in result["checksums"].items()]
    rows.append(("digest", result["file_digest"]))
    width = max(len(name) for name, _ in rows)
    return "\n".join([str(file), *(f"  {name:{width}}  {value}" for name, value in rows)])


@click.command("tensors")
@_file
@click.option("--filter", "pattern", help="Only names that hold this text.")
@format_option
def tensors_command(file: Path, pattern: str | None, output_format: str) -> None:
    """List the tensors of an .apr file.

    \b
    Example:
      apr tensors model.apr --filter layers.0.
    """
    emit(list_tensors(file, pattern), output_format, _render_tensors)


def _render_tensors(result: dict[str, Any]) -> str:
    lines = [
        f"{row['dtype']:5} {'x'.join(map(str, row['shape'])):>15} {row['size_bytes']:>14,}  {row['name']}"
        + (f"  (is {row['alias_of']})" if row["alias_of"] else "")
        for row in result["tensors"]
    ]
    lines.append(f"{result['tensor_count']} tensors, {result['total_size_bytes']:,} bytes")
    return "\n".join(lines)
