"""The text that a control replaces does not stand exactly once in its file.

The file or the line was changed since. The defect would not be planted, or in another place than was meant.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import PROJECT, Example
from pv.rules.project_files import is_relative, text_of
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for part in contract.runnable:
        for control in part.controls:
            if control.edit is None or not control.edit.replace:
                continue
            text = text_of(around.corpus.root, control.edit.path) if is_relative(control.edit.path) else None
            if text is None:
                says = f"there is no file {control.edit.path} to edit"
                yield Offence(control.where("edit"), says, "name it from the root of the project")
            elif (count := text.count(control.edit.replace)) != 1:
                says = f"the text stands {count} times in {control.edit.path}"
                yield Offence(control.where("replace"), says, "name a text that stands there once")


_CONTROL = 'control: {patch: "split.side:side", returns: train}'
_SIDE = (*PROJECT[:2], ("src/split/side.py", "LIMIT = 3\n"))

RULE = Rule(
    page=__doc__,
    id="STRICT-033",
    name="edit-misses",
    profiles=STRICT,
    reads_project=True,
    bad=Example(
        changes=((_CONTROL, "control: {edit: src/split/side.py, replace: limit, by: x}"),), files=_SIDE
    ),
    good=Example(
        changes=((_CONTROL, "control: {edit: src/split/side.py, replace: LIMIT, by: x}"),), files=_SIDE
    ),
    check=_check,
)
