"""A time limit is not more than 0 s and at most a day.

Without a limit a test that hangs is never refuted, and with none to speak of it never runs.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import edit
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for part in contract.runnable:
        if not 0 < part.timeout_s <= MOST_S:
            says = f"timeout_s is {part.timeout_s:g}, and must be more than 0 and at most {MOST_S:,}"
            yield Offence(part.where("timeout_s"), says, "state how long it may take")


MOST_S = 86_400


RULE = Rule(
    page=__doc__,
    id="STRICT-017",
    name="timeout-out-of-range",
    profiles=STRICT,
    bad=edit("timeout_s: 60", "timeout_s: 0"),
    good=edit("timeout_s: 60", "timeout_s: 0.5"),
    check=_check,
)
