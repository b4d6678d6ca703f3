"""Errors of running claims."""

from __future__ import annotations

from dataclasses import dataclass

from pv.errors import PvError


@dataclass(kw_only=True, eq=False)
class InterpreterWrong(PvError):
    """The interpreter that is to run the project's tests does not run."""

    id = "PV301"
    text = "the interpreter {python} does not run ({reason})"
    help = "name another with --python"
    python: str
    reason: str


@dataclass(kw_only=True, eq=False)
class NothingSelected(PvError):
    """No claim was left to run, which is never a pass."""

    id = "PV302"
    text = "nothing was run: {path} has {there}, and {filter} leaves none of them"
    help = "{advice_text}"
    path: str
    there: str
    filter: str
    advice_text: str


@dataclass(kw_only=True, eq=False)
class NothingToRun(PvError):
    """The contracts that were named hold nothing that can be run."""

    id = "PV303"
    text = "{path} holds no {what}"
    help = "write one with a runner, or name another file"
    path: str
    what: str
