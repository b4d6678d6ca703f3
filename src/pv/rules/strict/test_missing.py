"""A pytest runner names a test that is not in its file.

The file was renamed, or the test; a filter that selects nothing passes with many tools. Parameters are not looked at:
pytest itself says so when it runs.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.contract.runner import PytestRunner
from pv.rules.examples import edit
from pv.rules.project_files import missing_of
from pv.rules.rule import STRICT, Around, Offence, Rule
from pv.rules.targets import is_node_id


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for test in contract.tests:
        if not isinstance(test.runner, PytestRunner):
            continue
        for i, node_id in enumerate(test.runner.node_ids):
            if is_node_id(node_id) and (says := missing_of(around.corpus.root, node_id)):
                yield Offence(test.runner.where(f"pytest[{i}]"), says, "correct the node id")


RULE = Rule(
    page=__doc__,
    id="STRICT-026",
    name="test-missing",
    profiles=STRICT,
    reads_project=True,
    bad=edit("pytest: tests/test_split.py::test_disjoint", "pytest: tests/test_split.py::test_joint"),
    good=edit(
        "pytest: tests/test_split.py::test_disjoint", 'pytest: ["tests/test_split.py::test_disjoint[1]"]'
    ),
    check=_check,
)
