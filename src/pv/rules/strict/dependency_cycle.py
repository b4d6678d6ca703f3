"""A contract depends on itself, directly or through others.

Each would be as strong as the other, which says nothing about either.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import STRICT_BASE, Example
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for i, stem in enumerate(contract.metadata.depends_on):
        other = around.corpus.contracts.get(stem)
        if other is not None and any(reached.stem == contract.stem for reached in around.corpus.reach(other)):
            says = f"{stem} depends on this contract too" if stem != contract.stem else "it depends on itself"
            yield Offence(contract.metadata.where(f"depends_on[{i}]"), says, "remove one of the dependencies")


RULE = Rule(
    page=__doc__,
    id="STRICT-022",
    name="dependency-cycle",
    profiles=STRICT,
    bad=Example(
        changes=(("depends_on: []", "depends_on: [also-v1]"),),
        beside=(
            (
                "also-v1",
                STRICT_BASE.replace("SPLIT-", "ALSO-").replace("depends_on: []", "depends_on: [example-v1]"),
            ),
        ),
    ),
    good=Example(
        changes=(("depends_on: []", "depends_on: [also-v1]"),),
        beside=(
            (
                "also-v1",
                STRICT_BASE.replace("SPLIT-", "ALSO-").replace("depends_on: []", "depends_on: [third-v1]"),
            ),
            ("third-v1", STRICT_BASE.replace("SPLIT-", "THIRD-")),
        ),
    ),
    check=_check,
)
