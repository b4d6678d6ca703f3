"""An obligation has no id.

No test can name it in `refutes`, so nothing says which test would refute it, and one test seems to cover them all.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.blank import blank
from pv.rules.examples import edit
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for obligation in contract.obligations:
        if blank(obligation.id):
            yield Offence(obligation.where("id"), "the obligation has no id", "give it an id")


RULE = Rule(
    page=__doc__,
    id="STRICT-002",
    name="obligation-without-id",
    profiles=STRICT,
    bad=edit(
        "  - id: SPLIT-OBL-001\n    type",
        "  - type",
        "refutes: [SPLIT-OBL-001]",
        "refutes: [X-001]",
        "obligation: SPLIT-OBL-001",
        "obligation: X-001",
    ),
    good=edit(
        "id: SPLIT-OBL-001",
        "id: 7",
        "refutes: [SPLIT-OBL-001]",
        "refutes: [7]",
        "obligation: SPLIT-OBL-001",
        "obligation: 7",
    ),
    check=_check,
)
