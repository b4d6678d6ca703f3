"""A control plants nothing, or cannot be planted as it is written.

A control that changes nothing would make every honest test look as if it could not fail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.contract.control import Control
from pv.rules.blank import blank
from pv.rules.examples import edit
from pv.rules.rule import STRICT, Around, Offence, Rule
from pv.rules.targets import is_dotted


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for part in contract.runnable:
        for control in part.controls:
            for name, says, fix in _wrong(control):
                yield Offence(control.where(name), says, fix)


def _wrong(control: Control) -> Iterator[tuple[str, str, str]]:
    if control.patch is not None and not is_dotted(control.patch):
        yield "patch", f"{control.patch!r} names no attribute", "write package.module:name"
    put = control.replacement
    if put is not None and put.how in ("with", "raises") and not is_dotted(str(put.value)):
        yield put.how, f"{put.value!r} names no attribute", "write package.module:name"
    if control.edit is not None and control.edit.replace in ("", control.edit.by):
        yield "replace", "the edit changes nothing", "say which text is replaced, and by what other"
    if control.edit is not None and blank(control.edit.path):
        yield "edit", "the edit names no file", "name it from the root of the project"
    if control.has("sees") and blank(control.sees):
        yield "sees", "sees is empty, and is found in anything", "say what the failing test must say"
    if control.has("env") and not control.env:
        yield "env", "no variable is set", "name the variable that plants the defect"
    try:
        re.compile(control.sees or "")
    except re.error as error:
        yield "sees", f"this is no regular expression ({error})", "correct it"


RULE = Rule(
    page=__doc__,
    id="STRICT-012",
    name="control-malformed",
    profiles=STRICT,
    bad=edit('control: {patch: "split.side:side", returns: train}', "control: {patch: side, returns: train}"),
    good=edit(
        'control: {patch: "split.side:side", returns: train}',
        'control: {patch: "split.side:Split.side", with: "tests.plants:other", sees: "both sides?"}',
    ),
    check=_check,
)
