"""A figure has no limit, no unit, or no comparison.

A number that nothing is compared with cannot be on the wrong side; one without a unit is compared with another.
A plain count has the unit `1`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.contract.runner import CommandRunner, Figure, MeasureRunner
from pv.rules.blank import blank
from pv.rules.examples import edit
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for test in contract.tests:
        figure = test.runner.figure if isinstance(test.runner, CommandRunner) else test.runner
        if not isinstance(figure, Figure | MeasureRunner):
            continue
        missing = [name for name in _NEEDED if _is_missing(getattr(figure, name, "there"))]
        if missing:
            says = f"the figure of {test.id} has no {' and no '.join(missing)}"
            yield Offence(figure.place, says, "state what it is, op, value and unit")
        elif not math.isfinite(figure.value or 0):
            yield Offence(figure.where("value"), "the limit is not finite", "state a number")
        if isinstance(figure, MeasureRunner) and not 1 <= figure.repeats <= 1000:
            yield Offence(
                figure.where("repeats"), f"{figure.repeats} repeats are asked for", "ask for 1 to 1,000"
            )


_NEEDED = ("json", "op", "value", "unit")  # a measure prints nothing but its figure, and so has no json


def _is_missing(held: object) -> bool:
    return held is None or (isinstance(held, str) and blank(held))


RULE = Rule(
    page=__doc__,
    id="STRICT-010",
    name="figure-incomplete",
    profiles=STRICT,
    bad=edit(
        "pytest: tests/test_split.py::test_disjoint",
        '{measure: python bench.py, op: "<=", value: 150}'.strip("{}").replace(", ", "\n      "),
    ),
    good=edit(
        "pytest: tests/test_split.py::test_disjoint",
        'measure: python bench.py\n      op: "<="\n      value: 0\n      unit: "1"',
    ),
    check=_check,
)
