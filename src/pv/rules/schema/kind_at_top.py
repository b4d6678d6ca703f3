"""`kind` stands at the top of the file.

It is read under `metadata` only, so that the contract is judged as a kernel, whatever its author wanted.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import edit
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for key in contract.unknown_keys:
        if key.name == "kind" and not key.within:
            yield Offence(key.place, "kind stands at the top of the file", "move it below metadata")


RULE = Rule(
    page=__doc__,
    id="SCHEMA-018",
    name="kind-at-top",
    profiles=SINCE_PV2,
    bad=edit("equations:\n", "kind: schema\nequations:\n"),
    good=edit("  depends_on: []\n", "  depends_on: []\n  kind: training-loop\n"),
    check=_check,
)
