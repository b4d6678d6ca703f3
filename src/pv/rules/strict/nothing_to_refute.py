"""A contract has no obligations, or no falsification tests.

Whatever happens, it stays true. No kind of contract is exempt.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import FALSIFIERS, edit
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    if not contract.obligations:
        yield Offence(contract.where("obligations"), "there are no proof_obligations", "say what must hold")
    if not contract.tests:
        yield Offence(contract.where("tests"), "there are no falsification_tests", "say what would refute it")


RULE = Rule(
    page=__doc__,
    id="STRICT-024",
    name="nothing-to-refute",
    profiles=STRICT,
    bad=edit(FALSIFIERS, "falsification: [the sides are disjoint]\n"),
    good=edit("  depends_on: []\n", "  depends_on: []\n  kind: schema\n  registry: true\n"),
    check=_check,
)
