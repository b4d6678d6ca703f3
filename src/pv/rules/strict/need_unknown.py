"""`needs` asks for something that nobody can look for.

Needs are `gpu`, `network`, `model:NAME`, `tool:NAME` and `minutes:N`; another word would never be met, or always.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.contract.falsifier import NEEDS, FalsificationTest, Pending
from pv.rules.examples import edit
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for test in contract.tests:
        owners: list[FalsificationTest | Pending] = [test, test.pending] if test.pending else [test]
        for owner in owners:
            for i, need in enumerate(owner.needs):
                if not _NEED.fullmatch(need):
                    fix = f"write one of {', '.join(NEEDS)}"
                    yield Offence(owner.where(f"needs[{i}]"), f"nobody can look for the need {need!r}", fix)


_NEED = re.compile(r"gpu|network|model:\S+|tool:\S+|minutes:[1-9]\d*")


RULE = Rule(
    page=__doc__,
    id="STRICT-015",
    name="need-unknown",
    profiles=STRICT,
    bad=edit("needs: []", "needs: [cuda]"),
    good=edit("needs: []", "needs: [gpu, network, model:org/name, tool:gcc, minutes:20]"),
    check=_check,
)
