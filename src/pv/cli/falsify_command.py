"""pv falsify."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pv.cli.run_options import Asked, run_claims, run_options


@click.command("falsify")
@click.argument("path", type=click.Path(path_type=Path), default=Path("contracts"))
@click.option(
    "--live", is_flag=True, help="Run those too that are marked live: on the real artifact, and long."
)
@run_options
def falsify_command(path: Path, **asked: Any) -> int:
    """Run the falsification tests of contracts, and each again under the defects that must make it fail.

    A run is recorded below evidence/. A claim survived, was refuted, could not fail (it survived a planted
    defect), gave no answer (all skipped, hung, killed, broken), or was not run. Exit code 0: all survived;
    1: something was refuted or could not fail; 2: it is not known.

    \b
    Example:
      pv falsify contracts -j 2
      pv falsify contracts/tokens-v1.yaml --only 'TOKENS-*' --format json
    """
    return run_claims(path, lambda contract: contract.tests, Asked(**asked))
