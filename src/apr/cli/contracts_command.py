"""apr contracts: the same as `pv`, whose name a pipe viewer shares.

A process of its own, because apr and pv never import each other.
"""

from __future__ import annotations

import subprocess
import sys

import click


@click.command(
    "contracts",
    add_help_option=False,  # `apr contracts --help` is pv's
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def contracts_command(arguments: tuple[str, ...]) -> int:
    """Read contracts, run what would refute them, compute what survived (the same as pv).

    \b
    Example:
      apr contracts validate contracts/tokens-v1.yaml
    """
    return subprocess.run([sys.executable, "-m", "pv", *arguments], check=False).returncode
