"""A test is `level: part` and `live: true` at once.

What looks at a part of the algorithm only cannot show that the real artifact keeps the claim end to end.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import edit
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for test in contract.tests:
        if test.live and test.level == "part":
            yield Offence(test.where("level"), f"{test.id} is live and of a part", "remove one of the two")


RULE = Rule(
    page=__doc__,
    id="STRICT-029",
    name="part-that-is-live",
    profiles=STRICT,
    bad=edit("    timeout_s: 60\n", "    timeout_s: 60\n    level: part\n    live: true\n"),
    good=edit("    timeout_s: 60\n", "    timeout_s: 60\n    level: full\n    live: true\n"),
    check=_check,
)
