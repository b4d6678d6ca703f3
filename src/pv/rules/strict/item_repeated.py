"""A list says the same thing twice.

Once is enough, so one of the two was probably meant to be another: another test, another obligation, another defect.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.contract.located import Located
from pv.finding import Severity
from pv.rules.examples import edit
from pv.rules.rule import STRICT, Around, Offence, Rule
from pv.tree.nodes import Place


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for owner in _owners(contract):
        for name, written in _LISTS.items():
            seen: set[str] = set()
            for i, item in enumerate(getattr(owner, name, ())):
                said = repr(item)  # true is not 1 here, as it is in a comparison
                if said in seen:
                    yield Offence(_place(owner, written, i, item), f"{written} says this twice", _FIX)
                seen.add(said)


def _owners(contract: Contract) -> Iterator[Located]:
    """The parts that hold lists."""
    yield contract.metadata
    yield from contract.equations
    for test in contract.tests:
        yield from (part for part in (test, test.runner, test.pending) if part is not None)
    yield from contract.proofs


def _place(owner: Located, written: str, i: int, item: object) -> Place:
    return item.place if isinstance(item, Located) else owner.where(f"{written}[{i}]")


# Lists in which neither order nor number means anything, with the name that each has in a file; words of a command do.
_LISTS = {
    "references": "references",
    "depends_on": "depends_on",
    "invariants": "invariants",
    "preconditions": "preconditions",
    "postconditions": "postconditions",
    "obligations": "obligation",
    "refutes": "refutes",
    "node_ids": "pytest",
    "needs": "needs",
    "subjects": "subjects",
    "controls": "control",
}
_FIX = "take one out, or write what was meant"

RULE = Rule(
    page=__doc__,
    id="STRICT-035",
    name="item-repeated",
    profiles=STRICT,
    severity=Severity.WARNING,
    bad=edit("refutes: [SPLIT-OBL-001]", "refutes: [SPLIT-OBL-001, SPLIT-OBL-001]"),
    good=edit("pytest: tests/test_split.py::test_disjoint", "command: [python, -c, '', -c, '']"),
    check=_check,
)
