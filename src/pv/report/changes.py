"""Changes of contracts, and what stands in their way, for people and machines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pv.change.change import Change, Kind
from pv.change.gate import Gate


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """The versions of a contract, and the least that its changes ask for."""

    old: str
    new: str
    bump: str
    least: str | None
    follows: bool


def diff_text(changes: Sequence[Change], versions: Mapping[str, Versions]) -> str:
    """One line a change below its contract, and the version that follows.

    Args:
        changes: of all contracts.
        versions: by stem, of contracts that are on both sides.
    """
    lines: list[str] = []
    for stem in dict.fromkeys([*(change.contract for change in changes), *versions]):
        lines += [stem, *_lines(c for c in changes if c.contract == stem)]
        if stem in versions:
            lines.append(f"  {_version(versions[stem])}")
    weaker = sum(change.must_be_waived for change in changes)
    return "\n".join([*lines, f"{len(changes)} change(s), {weaker} to be waived"])


def _lines(changes: Iterable[Change]) -> Iterator[str]:
    order = list(Kind)
    for change in sorted(changes, key=lambda change: order.index(change.kind)):
        yield f"  {change.kind.value:<12}  {change.claim}  {change.says}"


def _version(held: Versions) -> str:
    if held.bump == "none":
        return f"version {held.new}: nothing that is claimed was changed"
    told = "follows" if held.follows else f"must be {held.least or 'a version of three numbers'} at least"
    return f"version {held.old} -> {held.new}: a {held.bump} change, {told}"


def diff_json(changes: Sequence[Change], versions: Mapping[str, Versions], code: int) -> str:
    """The same for machines."""
    document = {
        "changes": [change.as_dict() for change in changes],
        "versions": {
            stem: {"old": v.old, "new": v.new, "bump": v.bump, "least": v.least, "follows": v.follows}
            for stem, v in versions.items()
        },
        "exit_code": code,
    }
    return json.dumps(document, indent=1)


def gate_text(held: Gate) -> str:
    """What was changed, what is waived, what is in the way."""
    lines = [f"compared with {held.base[:12]}"]
    for i, change in enumerate(held.changes):
        waiver = held.waivers.get(i)
        told = f"  (waived by {waiver.owner}: {waiver.reason})" if waiver else ""
        lines.append(f"  {change.kind.value:<12}  {change.contract}/{change.claim}  {change.says}{told}")
    lines += [f"blocked: {sentence}" for sentence in held.blocked]
    return "\n".join([*lines, "The gate is closed." if held.blocked else "The gate is open."])


def gate_json(held: Gate, code: int) -> str:
    """The same for machines."""
    rows = [
        {**change.as_dict(), "waived_by": held.waivers[i].owner if i in held.waivers else None}
        for i, change in enumerate(held.changes)
    ]
    document = {"base": held.base, "changes": rows, "blocked": list(held.blocked), "exit_code": code}
    return json.dumps(document, indent=1)
