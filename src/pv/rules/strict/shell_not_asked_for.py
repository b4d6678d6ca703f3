"""A command has a word that only a shell would read.

No shell stands between `pv` and the program, so `|`, `&&` or `>` are passed on as words.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.contract.runner import CommandRunner, MeasureRunner
from pv.rules.examples import edit
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for test in contract.tests:
        if isinstance(test.runner, CommandRunner | MeasureRunner):
            words = [word for word in test.runner.argv if word in _SHELL]
            if words and test.runner.argv[0] not in ("sh", "bash"):
                says = f"{words[0]} is passed to {test.runner.argv[0]} as a word"
                yield Offence(test.runner.place, says, "write [sh, -c, ...], or leave it out")


_SHELL = frozenset(("|", "||", "&&", "&", ";", ">", ">>", "<", "2>&1"))


RULE = Rule(
    page=__doc__,
    id="STRICT-027",
    name="shell-not-asked-for",
    profiles=STRICT,
    bad=edit("pytest: tests/test_split.py::test_disjoint", 'command: "python split.py | sort"'),
    good=edit("pytest: tests/test_split.py::test_disjoint", 'command: [sh, -c, "python split.py | sort"]'),
    check=_check,
)
