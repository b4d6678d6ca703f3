"""A falsification test has no control.

Nothing has shown that it can fail. A control runs the same test under a planted defect, and the test must fail.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import edit
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for test in contract.tests:
        if test.runner is not None and not test.controls:
            fix = (
                "plant a defect that must make it fail, such as control: {patch: module:name, returns: false}"
            )
            yield Offence(test.where("control"), f"the test {test.id} has no control", fix)


RULE = Rule(
    page=__doc__,
    id="STRICT-011",
    name="control-missing",
    profiles=STRICT,
    bad=edit('    control: {patch: "split.side:side", returns: train}\n', ""),
    good=edit(
        '    control: {patch: "split.side:side", returns: train}\n',
        '    control: {env: {SPLIT_BROKEN: "1"}}\n',
    ),
    check=_check,
)
