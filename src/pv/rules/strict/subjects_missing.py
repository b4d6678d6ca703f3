"""A test or a proof names no subjects.

Its evidence would stay fresh whatever changes in the program, because nothing says which files it is about.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import edit
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for part in contract.runnable:
        if part.runner is not None and not part.subjects:
            fix = "name the files whose change makes it stale, as globs from the root of the project"
            yield Offence(part.where("subjects"), f"{part.id} has no subjects", fix)


RULE = Rule(
    page=__doc__,
    id="STRICT-016",
    name="subjects-missing",
    profiles=STRICT,
    bad=edit("    needs: []\n    subjects: [src/split/*.py]\n", "    needs: []\n"),
    good=edit(
        "    needs: []\n    subjects: [src/split/*.py]\n", "    needs: []\n    subjects: src/split/*.py\n"
    ),
    check=_check,
)
