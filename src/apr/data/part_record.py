"""The record of a part: what one machine made of its stretch of the corpus, and by what plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from apr.base.errors import BadJson, FileMissing
from apr.base.files import copy_file, read_json, write_json
from apr.data.assembly import VALIDATION_FOLDER, AssemblyState, Layout
from apr.data.corpus import ReadCounts
from apr.data.errors import NotAPart
from apr.data.journal import assembly_state
from apr.data.manifest import FORMAT_VERSION, MANIFEST_NAME, PART, PRODUCER_VERSION, SplitRecord
from apr.data.writer import LEDGER_NAME, STATE_FOLDER


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRecord:
    """One finished part."""

    index: int
    count: int
    plan: Mapping[str, Any]
    layout: Layout
    split: SplitRecord
    facts: Mapping[str, Any]
    counts: ReadCounts
    audit: Mapping[str, int]
    has_unknown: bool
    assembly: AssemblyState
    ledger_sha256: str
    elapsed_s: float


def write_part(out: Path, record: PartRecord) -> None:
    """Finish a part: keep its ledger, and write its record in the place of a manifest, so that no reader of datasets
    takes it for one.

    Raises:
        CannotWrite: the operating system refused.
    """
    head = {
        "format_version": FORMAT_VERSION,
        "status": PART,
        "producer_version": PRODUCER_VERSION,
        "tokenizer_sha256": record.layout.tokenizer_sha256,
        "part_index": record.index,
        "part_count": record.count,
    }
    copy_file(out / STATE_FOLDER / LEDGER_NAME, out / LEDGER_NAME)
    if record.layout.has_validation:
        write_json(out / VALIDATION_FOLDER / MANIFEST_NAME, head)
    write_json(out / MANIFEST_NAME, {**head, "record": asdict(record)})


def read_part(folder: Path) -> PartRecord:
    """Read the record of a finished part.

    Raises:
        NotAPart: the folder holds none, or one of another release.
        CannotRead: the operating system refused.
    """
    try:
        values = read_json(folder / MANIFEST_NAME)
    except FileMissing as error:
        raise NotAPart(folder=str(folder), reason="it has no manifest.json") from error
    except BadJson as error:
        raise NotAPart(folder=str(folder), reason=error.reason) from error
    if values.get("status") != PART or values.get("format_version") != FORMAT_VERSION:
        reason = f"status {values.get('status')!r}, format {values.get('format_version')!r}"
        raise NotAPart(folder=str(folder), reason=reason)
    try:
        return _record(values["record"])
    except (KeyError, TypeError) as error:
        raise NotAPart(folder=str(folder), reason=f"its record does not read: {error}") from error


def _record(values: Mapping[str, Any]) -> PartRecord:
    layout = values["layout"]
    sources = tuple((name, weight) for name, weight in layout["sources"])
    return PartRecord(
        **{
            **values,
            "layout": Layout(**{**layout, "sources": sources}),
            "split": SplitRecord(**values["split"]),
            "counts": ReadCounts(**values["counts"]),
            "assembly": assembly_state(values["assembly"]),
        }
    )
