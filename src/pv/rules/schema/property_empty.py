"""An obligation does not say what must hold.

An obligation without its property cannot be shown and cannot be refuted.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.blank import blank
from pv.rules.examples import edit
from pv.rules.rule import EVERY, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for obligation in contract.obligations:
        if blank(obligation.property):
            says = f"the obligation {obligation.id or ''} has an empty property".replace("  ", " ")
            yield Offence(obligation.where("property"), says, "say what must hold")


RULE = Rule(
    page=__doc__,
    id="SCHEMA-005",
    name="property-empty",
    profiles=EVERY,
    bad=edit("property: no document is on both sides", 'property: ""'),
    good=edit("property: no document is on both sides", "statement: no document is on both sides"),
    check=_check,
)
