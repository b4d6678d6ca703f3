"""A kernel has no `qa_gate`.

Nobody has said what a reviewer must see before the kernel ships. The strict profile has controls instead.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.finding import Severity
from pv.rules.examples import FIELD_BASE, FIELD_GATE, edit
from pv.rules.rule import FIELD, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    if contract.qa_gate is None:
        yield Offence(contract.where("qa_gate"), "there is no qa_gate", "say what a reviewer checks")


RULE = Rule(
    page=__doc__,
    id="SCHEMA-013",
    name="qa-gate-missing",
    profiles=FIELD,
    severity=Severity.WARNING,
    kernel_only=True,
    bad=edit(FIELD_GATE, "", base=FIELD_BASE),
    good=edit("  name: softmax\n", '  name: ""\n', base=FIELD_BASE),
    check=_check,
)
