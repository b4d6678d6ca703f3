"""Errors of running claims."""

from __future__ import annotations

from dataclasses import dataclass

from pv.errors import PvError


@dataclass(kw_only=True, eq=False)
class InterpreterWrong(PvError):
    """The interpreter that is to run the project's tests does not run.

    Tests, proofs and planted defects are run by the interpreter of the project, which need not be the one of pv;
    it must be Python 3 and answer within a minute.
    """

    id = "PV301"
    text = "the interpreter {python} does not run ({reason})"
    help = "name another with --python"
    python: str
    reason: str


@dataclass(kw_only=True, eq=False)
class NothingSelected(PvError):
    """No claim was left to run, which is never a pass.

    The contracts hold claims, and the options leave out every one of them: a misspelled id would otherwise be
    green.
    """

    id = "PV302"
    text = "nothing was run: {path} has {there}, and {filter} leaves none of them"
    help = "`pv status` lists the ids that there are, and --live adds the live ones{nearest}"
    path: str
    there: str
    filter: str
    nearest: str = ""


@dataclass(kw_only=True, eq=False)
class NothingToRun(PvError):
    """The contracts that were named hold nothing that can be run.

    `pv falsify` runs falsification tests, `pv prove` bounded proofs; these contracts have none of that sort.
    """

    id = "PV303"
    text = "{path} holds no {what}"
    help = "write one with a runner, or name another file"
    path: str
    what: str
