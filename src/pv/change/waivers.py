"""Waivers: somebody says why a claim may become weaker, and answers for it.

waivers:
  - contract: tokens-v1
    claim: TOKENS-OBL-003
    change: "tolerance: 0.5 -> 0.6"     # as `pv gate` prints it, so that it waives this change and no other
    reason: the float format changed, see LOG.md
    owner: somebody
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pv.change.change import Change
from pv.change.errors import WaiversWrong
from pv.tree.load import load_text, load_tree, read_bytes
from pv.tree.scalars import plain_value

FILE = "waivers.yaml"
_FIELDS = ("contract", "claim", "change", "reason", "owner")


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """One change that may be."""

    contract: str
    claim: str
    change: str
    reason: str
    owner: str

    def covers(self, change: Change) -> bool:
        """Whether it is about that change, word for word."""
        about = (self.contract, self.claim, " ".join(self.change.split()))
        return about == (change.contract, change.claim, " ".join(change.says.split()))


def read_waivers(path: Path) -> tuple[Waiver, ...]:
    """The waivers of a file; none when it is not there.

    Args:
        path: of the file.

    Raises:
        WaiversWrong, YamlWrong, PathUnreadable.
    """
    if not path.exists():
        return ()
    document = plain_value(load_tree(load_text(read_bytes(path), str(path)), str(path)))
    rows = document.get("waivers") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise WaiversWrong(path=str(path), reason="it has no list named waivers")
    return tuple(_waiver(row, str(path)) for row in rows)


def _waiver(row: object, path: str) -> Waiver:
    held = row if isinstance(row, dict) else {}
    missing = [name for name in _FIELDS if not str(held.get(name) or "").strip()]
    if missing:
        raise WaiversWrong(path=path, reason=f"it has no {missing[0]}")
    return Waiver(**{name: str(held[name]) for name in _FIELDS})


def waived(change: Change, waivers: Iterable[Waiver]) -> Waiver | None:
    """The waiver that covers a change; None without one."""
    return next((waiver for waiver in waivers if waiver.covers(change)), None)
