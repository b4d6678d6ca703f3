"""A kernel has no obligations, no tests, no proofs, or fewer tests than obligations.

With one of them missing, there is nothing that could be refuted or shown. Tests are only counted: that each obligation
has one of its own is what the strict profile asks (STRICT-007).
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import FIELD_BASE, FIELD_PROOFS, edit
from pv.rules.rule import ONLY_PV2, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    counts = {
        "proof_obligations": len(contract.obligations),
        "falsification_tests": len(contract.tests),
        "kani_harnesses": len(contract.proofs),
    }
    for block, count in counts.items():
        if not count:
            yield Offence(contract.where(_FIELDS[block]), f"{block} is empty", "add at least one")
    if len(contract.tests) < len(contract.obligations):
        says = f"there are {len(contract.obligations)} obligations and only {len(contract.tests)} falsification tests"
        yield Offence(contract.where("tests"), says, "write a test for each obligation")


_FIELDS = {"proof_obligations": "obligations", "falsification_tests": "tests", "kani_harnesses": "proofs"}


RULE = Rule(
    page=__doc__,
    id="PROVABILITY-001",
    name="not-provable",
    profiles=ONLY_PV2,
    kernel_only=True,
    bad=edit(
        "proof_obligations:\n",
        "proof_obligations:\n  - property: the outputs are positive\n",
        base=FIELD_BASE,
    ),
    good=edit(
        FIELD_PROOFS, FIELD_PROOFS + FIELD_PROOFS.partition("\n")[2].replace("KANI", "ALSO"), base=FIELD_BASE
    ),
    check=_check,
)
