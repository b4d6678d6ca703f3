"""A run as what was logged of it: records in order, and a column for each field.

A run is a file of JSON lines, or a folder of JSON records in the order of their names. A record beside a file of lines
is one observation, which supports no claim, and is not read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from pv.errors import PathMissing, PathUnreadable
from pv.mined.errors import NoMetrics, RecordWrong, RunEmpty, SeveralMetrics

METRICS = "metrics.jsonl"
_MAX_DIGITS = 300  # of a whole number: beyond, it is no float
Number: TypeAlias = int | float


class Absent:
    """The field is not in the record."""


ABSENT = Absent()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a record stands."""

    path: Path
    line: int | None  # None: the record is the whole file

    def __str__(self) -> str:
        return str(self.path) if self.line is None else f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The records of a run; of nested ones the numbers bear names with dots."""

    path: Path  # the file of lines, or the folder of records
    places: tuple[Place, ...] = field(repr=False)
    columns: Mapping[str, tuple[Any, ...]] = field(
        repr=False
    )  # a value a record: ABSENT, None, or what stands there

    def __len__(self) -> int:
        return len(self.places)

    def column(self, name: str) -> tuple[Any, ...]:
        """The values of a field, one a record."""
        return self.columns.get(name, (ABSENT,) * len(self))

    def numbers(self, name: str) -> list[tuple[int, Number]]:
        """The records that bear a field as a number: their index and the number."""
        return [(i, value) for i, value in enumerate(self.column(name)) if is_number(value)]


def is_number(value: Any) -> bool:
    """Whether a value of a record is a number; true and false are none, NaN and Infinity are."""
    return type(value) is int or type(value) is float  # true is an int to isinstance


def is_finite(value: Number) -> bool:
    """Whether a number is neither NaN nor infinite."""
    return isinstance(value, int) or math.isfinite(value)


def read_run(path: Path) -> Run:
    """The records of a run.

    Args:
        path: a file of JSON lines, one record in a .json file, or a folder with either.

    Raises:
        PathMissing, PathUnreadable, NoMetrics, SeveralMetrics, RecordWrong, RunEmpty.
    """
    if not path.exists():
        raise PathMissing(path=str(path))
    found = _metrics_of(path) if path.is_dir() else path
    records = list(_lines(found)) if found.is_file() and found.suffix != ".json" else list(_files(found))
    if not records:
        raise RunEmpty(path=str(found))
    return Run(path=found, places=tuple(place for place, _ in records), columns=_columns(records))


def _metrics_of(folder: Path) -> Path:
    """The file of lines in a folder, or the folder itself where it holds records only."""
    if (folder / METRICS).is_file():
        return folder / METRICS
    named = sorted(folder.glob("*.jsonl"))
    if len(named) > 1:
        raise SeveralMetrics(path=str(folder), count=len(named), names=", ".join(path.name for path in named))
    if not named and not any(folder.glob("*.json")):
        raise NoMetrics(path=str(folder))
    return named[0] if named else folder


def _lines(path: Path) -> Iterator[tuple[Place, dict[str, Any]]]:
    for number, line in enumerate(_bytes(path).split(b"\n"), 1):
        if line.strip():
            place = Place(path=path, line=number)
            yield place, _record(line, place)


def _files(path: Path) -> Iterator[tuple[Place, dict[str, Any]]]:
    for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
        place = Place(path=file, line=None)
        yield place, _record(_bytes(file), place)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PathUnreadable(path=str(path), reason=error.strerror or str(error)) from None


def _record(text: bytes, place: Place) -> dict[str, Any]:
    """One record, flat."""
    try:
        record = json.loads(text.decode("utf-8-sig"), object_pairs_hook=_once, parse_int=_whole)
        if not isinstance(record, dict):
            raise ValueError("it is no object")
        return _once(list(_leaves(record, "")))
    except RecursionError:
        raise RecordWrong(place=str(place), reason="it is nested too deeply") from None
    except UnicodeDecodeError:
        raise RecordWrong(place=str(place), reason="it is not UTF-8") from None
    except ValueError as error:
        told = str(error)
        raise RecordWrong(place=str(place), reason=told[:1].lower() + told[1:]) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping whose every key stands once: of two values nobody knows which was meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice")
    return found


def _whole(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a whole number has more than {_MAX_DIGITS} digits")
    return int(digits)


def _leaves(record: Mapping[str, Any], within: str) -> Iterator[tuple[str, Any]]:
    """What a record holds, nested records under names with dots."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{within}{name}.")
        else:
            yield f"{within}{name}", value


def _columns(records: list[tuple[Place, dict[str, Any]]]) -> dict[str, tuple[Any, ...]]:
    columns: dict[str, list[Any]] = {}
    for i, (_, record) in enumerate(records):
        for name, value in record.items():
            column = columns.setdefault(name, [])
            column.extend([ABSENT] * (i - len(column)))
            column.append(value)
    return {name: (*column, *[ABSENT] * (len(records) - len(column))) for name, column in columns.items()}
