"""A glob in `subjects` matches no file.

What it was to watch was moved or never there, so no change makes the evidence stale. Globs are relative to the
root of the project: the nearest folder above the contract that holds .git,
pyproject.toml, setup.py, Cargo.toml or package.json.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import edit
from pv.rules.project_files import is_relative, matches
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for part in contract.runnable:
        for i, glob in enumerate(part.subjects):
            if not is_relative(glob):
                yield Offence(
                    part.where(f"subjects[{i}]"), f"{glob!r} leaves the project", "write it from the root"
                )
            elif not _matches(glob, around):
                says = f"{glob!r} matches no file below {around.corpus.root.name or 'the root'}"
                yield Offence(part.where(f"subjects[{i}]"), says, "correct the glob")


def _matches(glob: str, around: Around) -> bool:
    """Whether a glob matches a file; many claims watch the same ones."""
    if glob not in around.globs:
        around.globs[glob] = matches(around.corpus.root, glob)
    return around.globs[glob]


RULE = Rule(
    page=__doc__,
    id="STRICT-025",
    name="subject-matches-nothing",
    profiles=STRICT,
    reads_project=True,
    bad=edit(
        "    needs: []\n    subjects: [src/split/*.py]\n", "    needs: []\n    subjects: [source/*.py]\n"
    ),
    good=edit(
        "    needs: []\n    subjects: [src/split/*.py]\n",
        "    needs: []\n    subjects: [src/**/side.py, pyproject.toml]\n",
    ),
    check=_check,
)
