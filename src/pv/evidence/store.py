"""Where evidence lies: a folder a claim, a file a run, and a ledger that names every file by its digest.

    evidence/STEM/ID/20261124T120000Z-0123456789abcdef.json
    evidence/STEM/ID/LEDGER                                    # as sha256sum writes it: `sha256sum -c LEDGER` checks it

Nothing is ever changed. The ledger's order is the order of the runs, so no clock has a say in which is the last; a file
that it names and that is not there was taken away, and one that it does not name does not count.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pv.errors import PathUnreadable
from pv.evidence.statement import PREDICATE, TYPE, sealed
from pv.evidence.subjects import Subject
from pv.run.verdict import Verdict

LEDGER = "LEDGER"
_MAX_NAME = 180  # characters of a folder's name; file systems have 255 bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One run that was recorded."""

    path: Path
    document: Mapping[str, Any] = field(repr=False)

    @property
    def ours(self) -> Mapping[str, Any]:
        """What pv says in it."""
        found: Mapping[str, Any] = self.document["predicate"]["pv"]
        return found

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """What the verdict speaks about; artifacts are facts of the run, and not part of it."""
        return tuple(
            Subject(role=s["annotations"]["role"], name=s["name"], sha256=s["digest"]["sha256"])
            for s in self.document["subject"]
            if s["annotations"]["role"] != "artifact"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Evidence that does not count, and must not be passed over in silence."""

    path: Path
    what: str  # one clause


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """The evidence of one claim: the runs in their order, and what is wrong with the folder."""

    runs: tuple[Evidence, ...] = ()
    damage: tuple[Damage, ...] = ()


def folder_of(store: Path, stem: str, claim_id: str) -> Path:
    """Where the evidence of a claim lies.

    Args:
        store: of the project.
        stem: the contract's.
        claim_id: the claim's own id.
    """
    return store / _folder_name(stem) / _folder_name(claim_id)


def _folder_name(name: str) -> str:
    """A name as one part of a path: never the folder itself or the one above, and short enough for every disk."""
    quoted = quote(name, safe=" ")
    if not quoted.strip("."):
        quoted = quoted.replace(".", "%2E")
    if len(quoted) > _MAX_NAME:
        quoted = (
            f"{quoted[:_MAX_NAME]}~{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
        )
    return quoted


def record(store: Path, document: dict[str, Any]) -> Path:
    """Write a run down; the file first, then its line in the ledger, so that a kill in between leaves no promise.

    Args:
        store: of the project.
        document: sealed.

    Raises:
        PathUnreadable: the disk is full, or the folder cannot be written.
    """
    ours = document["predicate"]["pv"]
    folder = folder_of(store, ours["contract"], ours["id"])
    folder.mkdir(parents=True, exist_ok=True)
    data = _bytes(document)
    moment = ours["started"][:19].replace("-", "").replace(":", "") + "Z"
    digest = hashlib.sha256(data).hexdigest()
    try:
        with _locked(folder, fcntl.LOCK_EX):
            path = _written(folder, f"{moment}-{digest[:16]}", data)
            _append(folder / LEDGER, f"{digest}  {path.name}\n".encode())
    except OSError as error:
        reason = error.strerror or str(error)
        raise PathUnreadable(path=str(folder), reason=reason, done="written") from None
    return path


def _bytes(document: dict[str, Any]) -> bytes:
    """A document as JSON in UTF-8; half a character, which a program may print, is escaped to be read as it was."""
    try:
        return (json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def _written(folder: Path, name: str, data: bytes) -> Path:
    """A new file with that content under the name or, when somebody has it already, one with a number behind it."""
    part = folder / f".{name}.{os.getpid()}.part"
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        for number in range(1000):
            path = folder / (f"{name}.json" if not number else f"{name}-{number}.json")
            try:
                os.link(part, path)  # fails when the name is taken, where a rename would replace it
                return path
            except FileExistsError:
                continue
    finally:
        part.unlink(missing_ok=True)
    raise FileExistsError(f"{folder / name} and 999 more names are taken")


@contextmanager
def _locked(folder: Path, kind: int) -> Iterator[None]:
    """Hold the folder of a claim, so that nobody reads between a file and its line in the ledger."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some disks know no locks
            fcntl.flock(handle, kind)
        yield
    finally:
        os.close(handle)


def _append(ledger: Path, line: bytes) -> None:
    """One write of less than a page at the end; a line that a full disk cut short does not swallow the next."""
    handle = os.open(ledger, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(handle).st_size
        is_cut = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        data = b"\n" + line if is_cut else line
        if os.write(handle, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(ledger))
        os.fsync(handle)
    finally:
        os.close(handle)


def records_of(store: Path, stem: str, claim_id: str) -> Records:
    """The evidence of a claim, each file held against the ledger, against itself and against where it lies.

    Args:
        store: of the project.
        stem: the contract's.
        claim_id: the claim's own id.
    """
    folder = folder_of(store, stem, claim_id)
    if not folder.is_dir():
        return Records()
    runs: list[Evidence] = []
    damage: list[Damage] = []
    listed = dict(_listed(folder / LEDGER, damage))
    for name, digest in listed.items():
        read = _read(folder / name, digest, stem, claim_id)
        (damage if isinstance(read, Damage) else runs).append(read)  # type: ignore[arg-type]
    strangers = [path for path in sorted(folder.glob("*.json")) if path.name not in listed]
    if strangers:  # a run that is just being recorded is none
        with _locked(folder, fcntl.LOCK_SH):
            listed = dict(_listed(folder / LEDGER, []))
    what = "it is not in the ledger: put there by hand, or pv was killed meanwhile; delete it and run the claim again"
    damage += [Damage(path=path, what=what) for path in strangers if path.name not in listed]
    return Records(runs=tuple(runs), damage=tuple(damage))


def _listed(ledger: Path, damage: list[Damage]) -> Iterator[tuple[str, str]]:
    """File names and digests, in the order of the ledger."""
    text = ledger.read_text(encoding="utf-8", errors="replace") if ledger.exists() else ""
    for number, line in enumerate(text.split("\n"), 1):
        if not line:
            continue
        digest, two, name = line.partition("  ")
        is_name = name.endswith(".json") and Path(name).name == name and not name.startswith(".")
        if not two or len(digest) != 64 or not is_name:
            damage.append(Damage(path=ledger, what=f"its line {number} is no digest with a file name"))
            continue
        yield name, digest


def _read(path: Path, digest: str, stem: str, claim_id: str) -> Evidence | Damage:
    """A file of the ledger, or why it does not count."""
    if path.exists() and not path.is_file():
        return Damage(path=path, what="it is no file")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Damage(path=path, what="it is in the ledger and was deleted")
    except OSError as error:
        return Damage(path=path, what=f"it cannot be read ({error.strerror})")
    if hashlib.sha256(data).hexdigest() != digest:
        return Damage(path=path, what="it was edited after it was recorded")
    document = _document(data)
    if document is None:
        return Damage(path=path, what="it is no evidence of pv, or its own digest is wrong")
    ours = document["predicate"]["pv"]
    if (ours["contract"], ours["id"]) != (stem, claim_id):
        return Damage(path=path, what=f"it is evidence of {ours['contract']}/{ours['id']}")
    return Evidence(path=path, document=document)


def _document(data: bytes) -> dict[str, Any] | None:
    """The statement that a file holds, when its own digest is right."""
    try:
        document: dict[str, Any] = json.loads(data)
        kinds = (document["_type"], document["predicateType"])
        held = document["predicate"]["pv"]["sha256"]
        again = sealed(document)["predicate"]["pv"]["sha256"]
        Evidence(path=Path(), document=document).subjects  # noqa: B018 (every field that is read is there)
        ours = document["predicate"]["pv"]
        Verdict(ours["verdict"])
        kinds_of_ours = [isinstance(ours[name], str) for name in ("contract", "id", "why", "ended")]
        is_whole = all(kinds_of_ours) and isinstance(ours["with_controls"], bool)
        is_whole = is_whole and isinstance(ours["run"]["facts"], dict)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return document if is_whole and kinds == (TYPE, PREDICATE) and held == again else None
