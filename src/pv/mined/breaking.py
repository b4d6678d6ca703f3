"""For a claim that holds of a run, an edit of the run's file under which it does not: what a control could plant."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pv.contract.control import Edit
from pv.mined.claim import NUMBER, Claim
from pv.mined.run import Number, Run
from pv.mined.series import EndsBelowStart


def breaking_edit(claim: Claim, run: Run, texts: Mapping[Path, str]) -> Edit | None:
    """An edit that makes one number of the run refute a claim.

    Args:
        claim: that holds of the run.
        run: its records.
        texts: of its files.

    Returns:
        None when there is no text that stands once and whose change would do.
    """
    numbers = run.numbers(claim.field)
    at = len(numbers) - 1 if isinstance(claim, EndsBelowStart) else len(numbers) // 2
    (_, before), (index, value) = numbers[max(at - 1, 0)], numbers[at]
    by = claim.spoilt(value, before)
    if next(claim.breaches(_with(run, claim.field, index, by)), None) is None:
        return None
    place = run.places[index]
    text = texts[place.path]
    record = text if place.line is None else text.split("\n")[place.line - 1]
    return _edit(claim.field.rpartition(".")[2], value, by, record, text, str(place.path))


def _with(run: Run, name: str, index: int, by: str) -> Run:
    """The run with another value in one place."""
    value = None if by == "null" else float(by)
    column = (*run.column(name)[:index], value, *run.column(name)[index + 1 :])
    return replace(run, columns={**run.columns, name: column})


def _edit(key: str, value: Number, by: str, record: str, text: str, path: str) -> Edit | None:
    """The shortest text around the number that stands once in the file, with the number replaced."""
    found = list(re.finditer(rf'"{re.escape(key)}"\s*:\s*(?P<number>{NUMBER})\s*[,}}]', record))
    if len(found) != 1 or float(found[0]["number"]) != value:
        return None
    (match,) = found
    for start in (match.start(), 0):
        replaced = record[start : match.end()]
        if text.count(replaced) == 1:
            changed = record[start : match.start("number")] + by + record[match.end("number") : match.end()]
            return Edit(path=path, replace=replaced, by=changed)
    return None
