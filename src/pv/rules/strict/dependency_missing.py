"""`metadata.depends_on` names a contract that is not there.

A contract is never stronger than what it depends on, and nobody can say how strong that is.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.nearest import did_you_mean
from pv.rules.examples import STRICT_BASE, Example, edit
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    there = {*around.corpus.contracts, *around.corpus.unreadable}
    for i, stem in enumerate(contract.metadata.depends_on):
        if stem not in there:
            says = f"there is no contract {stem} beside this one"
            fix = "name a file of the folder, without .yaml"
            yield Offence(contract.metadata.where(f"depends_on[{i}]"), says + did_you_mean(stem, there), fix)


RULE = Rule(
    page=__doc__,
    id="STRICT-021",
    name="dependency-missing",
    profiles=STRICT,
    bad=edit("depends_on: []", "depends_on: [also-v1.yaml]"),
    good=Example(
        changes=(("depends_on: []", "depends_on: [also-v1]"),),
        beside=(("also-v1", STRICT_BASE.replace("SPLIT-", "ALSO-")),),
    ),
    check=_check,
)
