"""The pv entry point; its commands come with the contracts."""

from __future__ import annotations

import sys

import pv

_USAGE = """usage: pv [--version] [--help]

Read contracts, run what would refute them, compute what survived.
This release holds the entry point only; the commands come with the contracts.

example: pv --version"""


def entry(argv: list[str] | None = None) -> int:
    """Run pv and return its exit code: 0 for a known option, 2 for anything else."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments == ["--version"]:
        print(f"pv {pv.__version__}")
        return 0
    if arguments in ([], ["--help"], ["-h"]):
        print(_USAGE)
        return 0
    print(f"pv: {arguments[0]!r} is not a command of this release; see pv --help", file=sys.stderr)
    return 2
