"""Two falsification tests of one file have the same id.

`pv falsify --only ID`, evidence and reports could mean either.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import edit
from pv.rules.repeated import repeated_ids
from pv.rules.rule import EVERY, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    yield from repeated_ids(contract.tests, "falsification test")


RULE = Rule(
    page=__doc__,
    id="SCHEMA-007",
    name="test-id-repeated",
    profiles=EVERY,
    bad=edit(
        "bounded_proofs:\n",
        """  - id: SPLIT-FAL-001
        rule: the sides are disjoint, seen from the other side
        prediction: 0 of 1,000 documents are on both sides
        if_fails: the validation loss is measured on text that was trained on
        refutes: [SPLIT-OBL-001]
        runner: {pytest: "tests/test_split.py::test_disjoint"}
        subjects: [src/split/*.py]
        control: {patch: "split.side:side", returns: val}
    bounded_proofs:
    """,
    ),
    good=edit(
        "bounded_proofs:\n",
        """  - id: SPLIT-FAL-002
        rule: the sides are disjoint, seen from the other side
        prediction: 0 of 1,000 documents are on both sides
        if_fails: the validation loss is measured on text that was trained on
        refutes: [SPLIT-OBL-001]
        runner: {pytest: "tests/test_split.py::test_disjoint"}
        subjects: [src/split/*.py]
        control: {patch: "split.side:side", returns: val}
    bounded_proofs:
    """,
    ),
    check=_check,
)
