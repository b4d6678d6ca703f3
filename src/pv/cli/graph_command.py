"""pv graph."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from pv.cli.options import format_option
from pv.errors import EXIT_NO, EXIT_NO_ANSWER, EXIT_OK
from pv.run.reading import read_contracts
from pv.survey.graph import Graph, dot, graph_of, mermaid, tree


@click.command("graph")
@click.argument("path", type=click.Path(path_type=Path), default=Path("contracts"))
@format_option("text", "json", "mermaid", "dot")
def graph_command(path: Path, output_format: str) -> int:
    """Show which contract depends on which; a missing one and a circle are errors.

    Exit code 0: all are there, without a circle; 1: not; 2: a file cannot be read.

    \b
    Example:
      pv graph contracts --format mermaid
    """
    read = read_contracts(path)
    graph = graph_of(read.contracts)
    print(_shown(graph, output_format))
    for name, reason in read.unread:
        print(f"{name} cannot be read: {reason}", file=sys.stderr)
    for stem, to in graph.missing:
        print(f"{stem} depends on {to}, which is not there", file=sys.stderr)
    for cycle in graph.cycles:
        print(f"in a circle: {' -> '.join((*cycle, cycle[0]))}", file=sys.stderr)
    if graph.missing or graph.cycles:
        return EXIT_NO
    return EXIT_NO_ANSWER if read.unread else EXIT_OK


def _shown(graph: Graph, output_format: str) -> str:
    if output_format == "json":
        document = {"edges": graph.edges, "missing": graph.missing, "cycles": graph.cycles}
        return json.dumps(document, indent=1)
    return {"mermaid": mermaid, "dot": dot, "text": tree}[output_format](graph)
