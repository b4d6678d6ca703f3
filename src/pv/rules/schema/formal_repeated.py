"""Two obligations have the same `formal`, word for word.

One of them says nothing that the other does not, or was copied and never changed.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.finding import Severity
from pv.rules.examples import FIELD_BASE, edit
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


RULE = Rule(
    page=__doc__,
    id="SCHEMA-006",
    name="formal-repeated",
    profiles=EVERY,
    severity=Severity.WARNING,
    bad=edit(
        "    formal: abs(sum(s) - 1) < eps\n",
        """    formal: abs(sum(s) - 1) < eps
      - type: bound
        property: the outputs are close to one in sum
        formal: abs(sum(s) - 1) < eps
    """,
        "kani_harnesses:\n",
        """  - id: FALSIFY-SM-002
        rule: also
        prediction: the sum is within 1e-6 of 1
        if_fails: the normalisation is missing
    kani_harnesses:
    """,
        base=FIELD_BASE,
    ),
    good=edit(
        "    formal: abs(sum(s) - 1) < eps\n",
        """    formal: abs(sum(s) - 1) < eps
      - type: bound
        property: the outputs are not far from one in sum
        formal: abs(sum(s) - 1) < 2 * eps
    """,
        "kani_harnesses:\n",
        """  - id: FALSIFY-SM-002
        rule: also
        prediction: the sum is within 1e-6 of 1
        if_fails: the normalisation is missing
    kani_harnesses:
    """,
        base=FIELD_BASE,
    ),
    check=_check,
)
