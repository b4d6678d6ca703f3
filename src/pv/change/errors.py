"""Errors of comparing contracts."""

from __future__ import annotations

from dataclasses import dataclass

from pv.errors import PvError


@dataclass(kw_only=True, eq=False)
class NoBase(PvError):
    """There is nothing to compare with: no git, or no such commit.

    A change is judged against the commit where the work began. A clone of one commit, as many CI systems make it,
    does not have it.
    """

    id = "PV401"
    text = "{ref} cannot be compared with ({reason})"
    help = "name a commit, branch or tag that git knows here; a shallow clone may lack it"
    ref: str
    reason: str


@dataclass(kw_only=True, eq=False)
class NotComparable(PvError):
    """One side cannot be read as a contract.

    Of a file that cannot be read nobody can say whether its claims became weaker.
    """

    id = "PV402"
    text = "{path} cannot be compared ({reason})"
    help = "correct it, or name another file"
    path: str
    reason: str


@dataclass(kw_only=True, eq=False)
class WaiversWrong(PvError):
    """The file of waivers does not say what is waived, by whom and why.

    A waiver opens the gate for one change, which it repeats word by word; one that says less would open it for
    others.
    """

    id = "PV403"
    text = "{path} has a waiver that cannot be used ({reason})"
    help = "each needs contract, claim, change, reason and owner"
    exit_code = 1
    path: str
    reason: str
