"""The runners `command:` and `measure:`: any program, judged by its exit code, a figure in its JSON, or a number."""

from __future__ import annotations

import re
from math import isfinite
from statistics import median

from pv.contract.runner import CommandRunner, Figure, MeasureRunner
from pv.run.answer import Answer, Measured, Said
from pv.run.execution import Executed, Ground, execute
from pv.run.figures import COMPARE, json_number, last_number

_NOT_STARTED = {126: "cannot be executed", 127: "is not there"}  # what shells exit with
_TRACEBACK = re.compile(r"^Traceback \(most recent call last\):$", re.MULTILINE)
_RAISED = re.compile(r"^([A-Za-z_][\w.]*)(?::.*)?$", re.MULTILINE)


def run_command(runner: CommandRunner, ground: Ground, timeout_s: float) -> Answer:
    """Run a program, and judge its exit code and, where the contract names one, its figure.

    Args:
        runner: which, and what is expected.
        ground: where.
        timeout_s: after which it is killed.
    """
    argv = _argv(runner.argv, ground)
    done = execute(argv, ground, timeout_s)
    nothing = done.no_answer(argv, ground)
    if nothing is not None:
        return nothing
    code = done.finished.exit_code
    if code != runner.exit_code:
        return _other_code(runner, done, argv, ground)
    if runner.figure is None:
        return done.answer(Said.HELD, f"it exited with {code}, as predicted", argv, ground)
    return _figure(runner.figure, done, argv, ground)


def run_measure(runner: MeasureRunner, ground: Ground, timeout_s: float) -> Answer:
    """Run a program that prints one number, as often as it is to be repeated, and judge the median.

    Args:
        runner: which, and the limit.
        ground: where.
        timeout_s: for each repeat.
    """
    argv = _argv(runner.argv, ground)
    values: list[float] = []
    seconds = 0.0
    for _ in range(max(runner.repeats, 1)):
        done = execute(argv, ground, timeout_s)
        seconds += done.finished.seconds
        value = _measured(done)
        if isinstance(value, str):
            return done.answer(Said.NOTHING, value, argv, ground)
        values.append(value)
    return _judged(tuple(values), runner.op, runner.value, runner.unit, done, argv, ground)


def _argv(words: tuple[str, ...], ground: Ground) -> list[str]:
    """The words, with `python` as the interpreter of the project."""
    program = ground.project.python if words[:1] in (("python",), ("python3",)) else "".join(words[:1])
    return [program, *words[1:]]


def _other_code(runner: CommandRunner, done: Executed, argv: list[str], ground: Ground) -> Answer:
    """An answer for an exit code that was not predicted: a no, unless the program never began."""
    code = done.finished.exit_code
    if code in _NOT_STARTED:
        return done.answer(
            Said.NOTHING, f"a program that it needs {_NOT_STARTED[code]} (exit {code})", argv, ground
        )
    raised = _raised(done.output.tail)
    return done.answer(
        Said.FAILED, f"it exited with {code} instead of {runner.exit_code}", argv, ground,
        asserted=raised == "AssertionError" or code == 0,
        says=done.output.tail,
    )  # fmt: skip


def _raised(text: str) -> str | None:
    """The exception whose traceback a Python program printed last."""
    parts = _TRACEBACK.split(text)
    found = _RAISED.findall(parts[-1]) if len(parts) > 1 else []
    return found[-1].rpartition(".")[2] if found else None


def _figure(figure: Figure, done: Executed, argv: list[str], ground: Ground) -> Answer:
    value = json_number(done.stdout, figure.json)
    if isinstance(value, str):
        return done.answer(Said.NOTHING, value, argv, ground)
    return _judged((value,), figure.op, figure.value, figure.unit, done, argv, ground)


def _measured(done: Executed) -> float | str:
    """The figure of one repeat, or why there is none: one that was printed before a failure is none."""
    if done.finished.no_answer:
        return done.finished.no_answer
    if done.finished.exit_code != 0:
        return f"it exited with {done.finished.exit_code}, so what it printed is no figure"
    return last_number(done.stdout)


def _judged(
    values: tuple[float, ...], op: str | None, limit: float | None, unit: str | None, done: Executed,
    argv: list[str], ground: Ground,
) -> Answer:  # fmt: skip
    """Hold the median against the limit."""
    if op is None or limit is None:
        return done.answer(Said.NOTHING, "the contract names no limit for the figure", argv, ground)
    if not isfinite(limit):
        return done.answer(Said.NOTHING, f"the limit of the contract is {limit}", argv, ground)
    value = median(values)
    figure = Measured(value=value, op=op, limit=limit, unit=unit, values=values)
    held = COMPARE[op](value, limit)
    unit_text = f" {unit}" if unit else ""
    why = f"{value:g}{unit_text}, and the limit is {op} {limit:g}{unit_text}"
    return done.answer(
        Said.HELD if held else Said.FAILED, why, argv, ground, asserted=not held, says=why, figure=figure
    )
