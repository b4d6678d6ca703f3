"""Two obligations have the same `formal`, word for word.

One of them says nothing that the other does not, or was copied and never changed.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.finding import Severity
from pv.rules.examples import edit
from pv.rules.rule import EVERY, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    first: dict[str, int] = {}
    for obligation in contract.obligations:
        if not obligation.formal:
            continue
        place = obligation.where("formal")
        if obligation.formal in first:
            says = f"this repeats the formal in line {first[obligation.formal]}"
            yield Offence(place, says, "write down what differs, or remove one of the two")
        first.setdefault(obligation.formal, place.line)


_FORMAL = "    property: no document is on both sides\n"
_SECOND = """\
    formal: train & val = {}
  - id: SPLIT-OBL-002
    applies_to: not_applicable
    na_reason: said already
    na_owner: me
    property: the sides are disjoint
    formal: train & val = {}
"""

RULE = Rule(
    page=__doc__,
    id="SCHEMA-006",
    name="formal-repeated",
    profiles=EVERY,
    severity=Severity.WARNING,
    bad=edit(_FORMAL, _FORMAL + _SECOND),
    good=edit(_FORMAL, _FORMAL + _SECOND.replace("train", "val", 1)),
    check=_check,
)
