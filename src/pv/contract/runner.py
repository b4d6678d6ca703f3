"""`runner:` what is run to refute a claim, in exactly one of four ways.

runner: {pytest: "tests/test_split.py::test_disjoint"}              # one node id, or a list
runner: {command: "apr plan --init absent.apr", exit_code: 2}       # a list of words, or one line
runner: {command: [...], figure: {json: loss.mean, op: "<=", value: 2.5, unit: nat}}
runner: {python: "package.module:function"}                         # returns None or true, or raises
runner: {measure: "python bench/start.py", op: "<=", value: 150, unit: ms, repeats: 5}
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from pv.contract.fields import Fields
from pv.contract.located import Located
from pv.tree.nodes import Scalar

OPS = ("<=", "<", ">=", ">", "==", "!=")
RUNNERS = ("pytest", "command", "python", "measure")


@dataclass(frozen=True, slots=True, kw_only=True)
class PytestRunner(Located):
    """Tests by node id; what really ran is read from JUnit XML."""

    node_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonRunner(Located):
    """A callable without arguments: it survives when it returns None or True and raises nothing."""

    target: str  # "package.module:attribute"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure(Located):
    """A number in the JSON object that a command prints, and its limit."""

    json: str  # the way to it: "loss.mean", "rows.0.value"
    op: str
    value: float | None
    unit: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRunner(Located):
    """A program with its expected exit code. No shell stands between: `[sh, -c, ...]` asks for one."""

    argv: tuple[str, ...]
    exit_code: int
    figure: Figure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureRunner(Located):
    """A program whose last line of output is one number; of several repeats the median is judged."""

    argv: tuple[str, ...]
    op: str | None
    value: float | None
    unit: str | None
    repeats: int


Runner: TypeAlias = PytestRunner | PythonRunner | CommandRunner | MeasureRunner


def read_runner(f: Fields) -> Runner | None:
    """The runner of a test, from its fields; None when it is none of the four."""
    named = [kind for kind in RUNNERS if f.node.get(kind) is not None]
    if len(named) != 1:
        told = "names none" if not named else f"names {' and '.join(named)}"
        f.problem(f.node.place, f"{f.within} {told}, and must name one of {', '.join(RUNNERS)}")
        return None
    return _READ[named[0]](f)


def _pytest(f: Fields) -> PytestRunner:
    return PytestRunner(node_ids=f.one_or_more("pytest"), **f.located())


def _python(f: Fields) -> PythonRunner:
    return PythonRunner(target=f.text("python"), **f.located())


def _command(f: Fields) -> CommandRunner:
    exit_code = f.count("exit_code")
    return CommandRunner(
        argv=read_argv(f, "command"),
        exit_code=exit_code if exit_code is not None else 0,
        figure=f.child("figure", _figure),
        **f.located(),
    )


def _figure(f: Fields) -> Figure:
    return Figure(
        json=f.text("json"),
        op=f.choice("op", OPS, required=True) or "<=",
        value=f.number("value"),
        unit=f.optional_text("unit"),
        **f.located(),
    )


def _measure(f: Fields) -> MeasureRunner:
    repeats = f.count("repeats")
    return MeasureRunner(
        argv=read_argv(f, "measure"),
        op=f.choice("op", OPS),
        value=f.number("value"),
        unit=f.optional_text("unit"),
        repeats=repeats if repeats is not None else 1,
        **f.located(),
    )


def read_argv(f: Fields, name: str) -> tuple[str, ...]:
    """The words of a command: a list as it is, one line split as a shell would, without running one.

    Args:
        f: the fields of the runner.
        name: the field.
    """
    words = f.one_or_more(name)
    node = f.node.get(name)
    if not isinstance(node, Scalar) or not words:
        return words
    try:
        return tuple(shlex.split(words[0]))
    except ValueError as error:  # a quote that is not closed
        f.problem(node.place, f"{f.path(name)} cannot be split into words ({str(error).lower()})")
        return ()


_READ: dict[str, Callable[[Fields], Runner]] = {
    "pytest": _pytest,
    "python": _python,
    "command": _command,
    "measure": _measure,
}
