"""The runner `python:`: one function of the project, called in a process of its own."""

from __future__ import annotations

from pv.contract.runner import PythonRunner
from pv.run.answer import Answer, Said
from pv.run.execution import Ground, execute

_SAID = {
    "held": (Said.HELD, "it returned"),
    "false": (Said.FAILED, "it returned false"),
    "raised": (Said.FAILED, "it raised"),
    "skipped": (Said.NOTHING, "it skipped itself"),
    "odd": (Said.NOTHING, "it must return nothing or true"),
    "unimportable": (Said.NOTHING, "it cannot be imported"),
}


def run_python(runner: PythonRunner, ground: Ground, timeout_s: float) -> Answer:
    """Call a function, and judge what it returns or raises.

    Args:
        runner: which.
        ground: where.
        timeout_s: after which the process is killed.
    """
    argv = ground.project.inside("call.py", runner.target)
    done = execute(argv, ground, timeout_s)
    nothing = done.no_answer(argv, ground)
    if nothing is not None:
        return nothing
    ended = done.event("ended")
    if ended is None:
        why = f"its process ended with exit code {done.finished.exit_code} before it returned"
        return done.answer(Said.NOTHING, why, argv, ground)
    how, says = str(ended.get("how")), str(ended.get("says", ""))
    if how == "held" and done.finished.exit_code != 0:
        why = f"it returned, and its process ended with exit code {done.finished.exit_code}"
        return done.answer(Said.NOTHING, why, argv, ground)
    said, why = _SAID.get(how, (Said.NOTHING, "its answer cannot be read"))
    first = says.partition("\n")[0]
    return done.answer(
        said, f"{why} ({first})" if first else why, argv, ground,
        asserted=how == "false" or ended.get("asserted") is True,
        says=says,
    )  # fmt: skip
