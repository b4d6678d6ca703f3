"""pv prove."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pv.cli.run_options import Asked, run_claims, run_options


@click.command("prove")
@click.argument("path", type=click.Path(path_type=Path), default=Path("contracts"))
@run_options
def prove_command(path: Path, **asked: Any) -> int:
    """Look for counterexamples inside the bounds that contracts state.

    What was shown is named and never mixed: exhausted (every case of a finite domain), sampled (random examples),
    confirmed over all paths, not confirmed in time. Exit codes as for `pv falsify`.

    \b
    Example:
      pv prove contracts
    """
    return run_claims(path, lambda contract: contract.proofs, Asked(**asked))
