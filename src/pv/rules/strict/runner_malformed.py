"""A runner cannot be run as it is written.

A pytest runner names tests by node id from the root of the project, a python runner an attribute of a module, a command
at least a program.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.contract.runner import PytestRunner, PythonRunner, Runner
from pv.rules.examples import edit
from pv.rules.rule import STRICT, Around, Offence, Rule
from pv.rules.targets import is_dotted, is_node_id


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for test in contract.tests:
        for name, says, fix in _wrong(test.runner):
            assert test.runner is not None
            yield Offence(test.runner.where(name), says, fix)


def _wrong(runner: Runner | None) -> Iterator[tuple[str, str, str]]:
    if isinstance(runner, PytestRunner):
        if not runner.node_ids:
            yield "pytest", "the runner names no test", "name at least one node id"
        for i, node_id in enumerate(runner.node_ids):
            if not is_node_id(node_id):
                fix = "write path/from/root/test_file.py::test_name"
                yield f"pytest[{i}]", f"{node_id!r} is no node id of a test", fix
    elif isinstance(runner, PythonRunner):
        if not is_dotted(runner.target):
            yield "python", f"{runner.target!r} names no attribute", "write package.module:function"
    elif runner is not None and not "".join(runner.argv[:1]).strip():
        yield type(runner).__name__.removesuffix("Runner").lower(), "the command is empty", "name a program"


RULE = Rule(
    page=__doc__,
    id="STRICT-009",
    name="runner-malformed",
    profiles=STRICT,
    bad=edit("pytest: tests/test_split.py::test_disjoint", "pytest: test_disjoint"),
    good=edit(
        "pytest: tests/test_split.py::test_disjoint", 'pytest: ["tests/test_split.py::test_disjoint[a::b c]"]'
    ),
    check=_check,
)
