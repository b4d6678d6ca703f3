"""Two contracts have the same file name.

`depends_on` names a contract by it, and could mean either.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import STRICT_BASE, Example
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for other in around.corpus.doubles:
        if other.path == contract.path:
            first = around.corpus.contracts[contract.stem].path
            yield Offence(contract.place, f"{first} has the same name", "rename one of the two")


RULE = Rule(
    page=__doc__,
    id="STRICT-031",
    name="stem-taken",
    profiles=STRICT,
    bad=Example(changes=(), beside=(("more/example-v1", STRICT_BASE.replace("SPLIT-", "ALSO-")),)),
    good=Example(changes=(), beside=(("more/example-v2", STRICT_BASE.replace("SPLIT-", "ALSO-")),)),
    check=_check,
)
