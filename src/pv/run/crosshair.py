"""The prover `crosshair`: all paths of a function, symbolically, by crosshair-tool where it is installed."""

from __future__ import annotations

import os
from dataclasses import replace

from pv.contract.proof import Prover
from pv.run.answer import Answer, Said
from pv.run.execution import UNBLOCKED, Executed, Ground, execute

CONFIRMED = "confirmed over all paths"
UNCONFIRMED = "not confirmed in time"
_KINDS = "PEP316,icontract,deal,asserts"
_SHARE = 0.5  # of the time limit, and in CPU time, so that crosshair ends by itself and says what it has not confirmed
_CONFIRMED_LINE = "Confirmed over all paths."


def run_crosshair(prover: Prover, ground: Ground, timeout_s: float) -> Answer:
    """Look for a path that breaks what the function promises.

    Args:
        prover: names the function.
        ground: where.
        timeout_s: after which it is stopped; it is told to end before.
    """
    if not {"crosshair-tool", "crosshair_tool"} & set(ground.project.about["packages"]):
        why = "crosshair-tool is not installed, and only it can run this"
        return Answer(said=Said.NOTHING, why=why, facts={"absent": True})
    argv = [
        ground.project.python, "-m", "crosshair", "check", "--report_all", f"--analysis_kind={_KINDS}",
        f"--per_condition_timeout={timeout_s * _SHARE:g}", UNBLOCKED, prover.target.replace(":", "."),
    ]  # fmt: skip
    done = execute(argv, _with_source(ground), timeout_s)
    return done.no_answer(argv, ground) or _read(done, argv, ground)


def _with_source(ground: Ground) -> Ground:
    """The ground with the folders of the project on the path, as our own scripts have them."""
    before = ground.env.get("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    folders = [before, str(ground.root), str(ground.root / "src")]
    return replace(ground, env={**ground.env, "PYTHONPATH": os.pathsep.join(filter(None, folders))})


def _read(done: Executed, argv: list[str], ground: Ground) -> Answer:
    """The answer in the lines `file:line: error|info: text`; an exit code of 1 without an error line is a crash."""
    errors = [line.partition(": error: ")[2] for line in done.stdout.splitlines() if ": error: " in line]
    infos = [line.partition(": info: ")[2] for line in done.stdout.splitlines() if ": info: " in line]
    if errors:
        asserted = errors[0].startswith(("false when", "AssertionError"))
        facts = {"counterexample": errors[0]}
        why = f"counterexample: {errors[0]}"[:300]
        return done.answer(Said.FAILED, why, argv, ground, asserted=asserted, says=errors[0], facts=facts)
    if done.finished.exit_code != 0:
        return done.answer(Said.NOTHING, f"crosshair exited with {done.finished.exit_code}", argv, ground)
    if not infos:
        return done.answer(Said.NOTHING, "crosshair found nothing to check there", argv, ground)
    grade = CONFIRMED if all(info == _CONFIRMED_LINE for info in infos) else UNCONFIRMED
    return done.answer(Said.HELD, f"no counterexample, {grade}", argv, ground, facts={"grade": grade})
