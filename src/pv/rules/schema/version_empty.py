"""`metadata.version` is the empty text.

Two states of a contract cannot be told apart by name, and a change of its claims has no number to raise.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import edit
from pv.rules.rule import EVERY, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    if not contract.metadata.version:
        fix = 'write a version such as "1.0.0"'
        yield Offence(contract.metadata.where("version"), "metadata.version is empty", fix)


RULE = Rule(
    page=__doc__,
    id="SCHEMA-002",
    name="version-empty",
    profiles=EVERY,
    bad=edit('version: "1.0.0"', 'version: ""'),
    good=edit('version: "1.0.0"', "version: 1.0"),
    check=_check,
)
