"""The journal of an encoding: what is on the disk for good, and where the next document is to be read.

It is replaced as a whole, after everything that it speaks of was synced. So whenever the encoder is stopped, what the
journal says is there, and what stands behind it is cut off by whoever goes on.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from apr.base.errors import BadJson, CannotWrite
from apr.base.files import read_json, write_json
from apr.data.assembly import AssemblyState
from apr.data.corpus import Place, ReadCounts
from apr.data.dedup import DedupState
from apr.data.errors import EncodingDiffers, EncodingRuns, EncodingStateBroken
from apr.data.manifest import ShardRecord
from apr.data.near_index import NearState
from apr.data.part import PartState
from apr.data.writer import JOURNAL_NAME, STATE_FOLDER, WriterState

_LOCK_NAME = "lock"
Plan = Mapping[str, Any]  # everything that the bytes of a dataset depend on, in words that a message can use


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """Where an encoding stands."""

    plan: Plan
    place: Place
    counts: ReadCounts
    audit: Mapping[str, int]
    assembly: AssemblyState
    elapsed_s: float
    dedup: DedupState | None = None  # None where copies are kept


def write_journal(out: Path, journal: Journal) -> None:
    """Replace the journal of a dataset folder.

    Raises:
        CannotWrite: the operating system refused.
    """
    write_json(out / STATE_FOLDER / JOURNAL_NAME, asdict(journal))


def read_journal(out: Path) -> Journal | None:
    """Read the journal of a dataset folder; None when there is none.

    Raises:
        EncodingStateBroken: it is not one that this release wrote.
        CannotRead: the operating system refused.
    """
    path = out / STATE_FOLDER / JOURNAL_NAME
    if not path.is_file():
        return None
    try:
        values = read_json(path)
        return Journal(
            plan=values["plan"],
            place=Place(**values["place"]),
            counts=ReadCounts(**values["counts"]),
            audit=values["audit"],
            assembly=assembly_state(values["assembly"]),
            elapsed_s=values["elapsed_s"],
            dedup=_dedup_state(values["dedup"]),
        )
    except (BadJson, KeyError, TypeError) as error:
        raise EncodingStateBroken(path=str(path), reason=f"its journal does not read: {error}") from error


def require_same_plan(out: Path, found: Plan, given: Plan) -> None:
    """Refuse to go on with another corpus, tokenizer or option.

    Raises:
        EncodingDiffers: the first difference.
    """
    for field in sorted({*found, *given}):
        if found.get(field) != given.get(field):
            raise EncodingDiffers(
                folder=str(out), field=field, found=str(found.get(field)), given=str(given.get(field))
            )


@contextmanager
def only_encoder(out: Path) -> Iterator[None]:
    """Be the only one who encodes into a claimed folder; the system releases it when a process is killed.

    Raises:
        EncodingRuns: another process does.
        CannotWrite: the operating system refused.
    """
    state = out / STATE_FOLDER
    with _claiming(out):
        state.mkdir(parents=True, exist_ok=True)
        handle = os.open(state / _LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EncodingRuns(folder=str(out)) from error
        yield
    finally:
        os.close(handle)


def _dedup_state(values: Mapping[str, Any] | None) -> DedupState | None:
    if values is None:
        return None
    near = values["near"]
    changes = {
        "dropped": tuple(
            (int(documents), int(size), int(near)) for documents, size, near in values["dropped"]
        ),
        "near": None if near is None else NearState(**near),
    }
    return DedupState(**{**values, **changes})


def _part_state(values: Mapping[str, Any]) -> PartState:
    writer = values["writer"]
    shards = tuple(ShardRecord(**shard) for shard in writer["shards"])
    return PartState(**{**values, "writer": WriterState(**{**writer, "shards": shards})})


@contextmanager
def _claiming(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotWrite(path=str(out), reason=error.strerror or str(error)) from error


def assembly_state(values: Mapping[str, Any]) -> AssemblyState:
    """Read what `asdict` made of an `AssemblyState`.

    Raises:
        KeyError, TypeError: it is something else.
    """
    validation = values["validation"]
    return AssemblyState(
        num_rows=values["num_rows"],
        train=_part_state(values["train"]),
        validation=None if validation is None else _part_state(validation),
    )
