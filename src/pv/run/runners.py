"""Which function carries out which runner."""

from __future__ import annotations

from pv.contract.falsifier import FalsificationTest
from pv.contract.proof import Proof
from pv.contract.runner import CommandRunner, MeasureRunner, PytestRunner
from pv.run.answer import Answer
from pv.run.command_runner import run_command, run_measure
from pv.run.execution import Ground
from pv.run.prover import run_prover
from pv.run.pytest_runner import run_pytest
from pv.run.python_runner import run_python


def run_once(part: FalsificationTest | Proof, ground: Ground) -> Answer:
    """Run a test or a proof once.

    Args:
        part: one that has a runner.
        ground: as the project is, or with a defect planted.
    """
    runner = part.runner
    assert runner is not None
    if isinstance(part, Proof):
        assert part.runner is not None
        return run_prover(part.runner, ground, part.timeout_s)
    if isinstance(runner, PytestRunner):
        return run_pytest(runner, ground, part.timeout_s)
    if isinstance(runner, CommandRunner):
        return run_command(runner, ground, part.timeout_s)
    if isinstance(runner, MeasureRunner):
        return run_measure(runner, ground, part.timeout_s)
    return run_python(part.runner, ground, part.timeout_s)  # type: ignore[arg-type]
