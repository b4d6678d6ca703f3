"""An id is more than one plain word.

Ids stand in command lines (`--only ID`), file names of evidence and reports, and are searched for by eye. Letters,
digits and `-_.` are plain; an id begins and ends with a letter or a digit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import edit
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    ids = [part for part in contract.obligations if part.id]  # without one: STRICT-002
    for part in (*ids, *contract.runnable):
        if not _ID.fullmatch(part.id or ""):
            fix = "use letters, digits, - _ and . only, 80 at most"
            yield Offence(part.where("id"), f"the id {part.id!r} is no plain word", fix)


_ID = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,78}[A-Za-z0-9])?")


RULE = Rule(
    page=__doc__,
    id="STRICT-003",
    name="id-malformed",
    profiles=STRICT,
    bad=edit("id: SPLIT-FAL-001", "id: SPLIT FAL/001"),
    good=edit("id: SPLIT-FAL-001", "id: split_fal.001"),
    check=_check,
)
