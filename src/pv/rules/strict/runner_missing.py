"""A falsification test names nothing that can be run.

It is words. A test that cannot run yet is `pending`, with an owner, a reason and a date.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import edit
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for test in contract.tests:
        if test.runner is None and test.pending is None:
            fix = "give it a runner (pytest, command, python or measure), or pending"
            yield Offence(test.where("runner"), f"the test {test.id} has no runner", fix)


RULE = Rule(
    page=__doc__,
    id="STRICT-008",
    name="runner-missing",
    profiles=STRICT,
    bad=edit(
        "    runner:\n      pytest: tests/test_split.py::test_disjoint\n", "    test: tests/test_split.py\n"
    ),
    good=edit(
        "    runner:\n      pytest: tests/test_split.py::test_disjoint\n",
        "    pending: {owner: me, reason: no corpus yet, needs: [network], expires: 2199-12-31}\n",
    ),
    check=_check,
)
