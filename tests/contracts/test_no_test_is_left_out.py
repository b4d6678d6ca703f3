"""Tests marked as claims are left to pv by `make test`: each must be one that pv runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from pv.contract.falsifier import FalsificationTest
from pv.contract.runner import PytestRunner
from pv.run.reading import read_contracts

ROOT = Path(__file__).parents[2]
HERE = "tests/contracts"


def recipe() -> str:
    """What `make test` does."""
    found = re.search(r"^test:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found, "there is no make test"
    return found[1]


def options_of_pytest() -> list[str]:
    found = re.search(r"-m pytest (.*)", recipe())
    assert found, "make test does not call pytest"
    return shlex.split(found[1])


def collected(*options: str) -> set[str]:
    """The node ids that pytest would run of this folder."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", *options, "--collect-only", HERE]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return {line for line in done.stdout.splitlines() if line.startswith(HERE)}


def is_run_unasked(claim: FalsificationTest) -> bool:
    """Whether `pv falsify contracts` runs a claim on every machine, with a control."""
    return not (claim.live or claim.pending or claim.needs) and bool(claim.controls)


def run_by_pv() -> set[str]:
    assert re.search(r"-m pv falsify contracts\b(?!.*--(only|no-controls))", recipe()), (
        "make test does not call pv"
    )
    claims = [claim for contract in read_contracts(ROOT / "contracts").contracts for claim in contract.tests]
    runners = [claim.runner for claim in claims if is_run_unasked(claim)]
    return {id for runner in runners if isinstance(runner, PytestRunner) for id in runner.node_ids}


def test_what_pytest_leaves_out_pv_runs() -> None:
    left_out = collected("-m", "not live") - collected(*options_of_pytest())
    bound = run_by_pv()
    assert len(left_out) > 30, "nothing is left to pv"
    unrun = {id for id in left_out if not {id, id.partition("[")[0], id.partition("::")[0]} & bound}
    assert not unrun, f"neither pytest nor pv runs {', '.join(sorted(unrun))}"
