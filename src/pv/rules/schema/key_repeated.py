"""A mapping has one key twice.

The last one wins without a word, and whoever reads the first believes it.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import edit
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule
from pv.tree.nodes import Block, walk


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for node in walk(contract.node):
        if isinstance(node, Block):
            for key in node.repeated():
                says = f"the key {key.text} stands twice in one mapping, and the last one wins"
                yield Offence(key.place, says, "remove or rename one of the two")


RULE = Rule(
    page=__doc__,
    id="SCHEMA-020",
    name="key-repeated",
    profiles=SINCE_PV2,
    bad=edit(
        "formula: train & val = {}\n", "formula: train & val = {}\n  disjoint:\n    formula: a & b = {}\n"
    ),
    good=edit(
        "formula: train & val = {}\n", "formula: train & val = {}\n  Disjoint:\n    formula: a & b = {}\n"
    ),
    check=_check,
)
