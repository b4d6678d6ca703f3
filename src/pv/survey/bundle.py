"""One archive with contracts, their evidence, and the digests of all that they speak about; and its way back.

    bundle.json                  # the digests of every other member, and what was known of every claim
    contracts/STEM.yaml ...      # with milestones and waivers
    evidence/STEM/ID/...         # the runs and their ledgers

The same contracts and evidence give the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pv import __version__
from pv.artifacts import files_of
from pv.evidence.canonical import digest_of
from pv.evidence.store import folder_of
from pv.evidence.subjects import subjects_of
from pv.status.claim import Claim
from pv.status.compute import ContractStatus, Report
from pv.survey.errors import AlreadyThere, BundleWrong

MANIFEST = "bundle.json"
_MAX_BYTES = 1 << 30  # of all members together, so that a small archive cannot fill a memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """An archive that was read, every member of which has the digest that the manifest gives."""

    manifest: Mapping[str, Any] = field(repr=False)
    files: Mapping[str, bytes] = field(repr=False)


def write_bundle(report: Report, folder: Path, store: Path, output: Path) -> int:
    """Write an archive; returns how many files it holds.

    Args:
        report: of the contracts.
        folder: where they lie.
        store: where their evidence lies.
        output: where to.

    Raises:
        AlreadyThere.
    """
    files = {**_contracts(folder), **_evidence(report, store)}
    manifest: dict[str, Any] = {
        "pv_bundle": 1,
        "version": __version__,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())},
        "contracts": [_contract(status, report) for status in report.contracts],
    }
    manifest["sha256"] = digest_of(manifest)
    data = _packed({MANIFEST: json.dumps(manifest, indent=1, sort_keys=True).encode(), **files})
    part = output.with_name(f".{output.name}.{os.getpid()}.part")  # a full disk leaves no half of an archive
    try:
        part.write_bytes(data)
        os.link(part, output)
    except FileExistsError:
        raise AlreadyThere(path=str(output)) from None
    finally:
        part.unlink(missing_ok=True)
    return len(files)


def _contracts(folder: Path) -> dict[str, bytes]:
    """The files of a folder, or the one that was named."""
    within = folder if folder.is_dir() else folder.parent
    return {
        f"contracts/{path.relative_to(within).as_posix()}": path.read_bytes() for path in files_of(folder)
    }


def _evidence(report: Report, store: Path) -> dict[str, bytes]:
    """Every file of the evidence of every claim."""
    found = {}
    for status in report.contracts:
        for claim in status.claims:
            place = folder_of(store, status.stem, claim.id)
            for path in sorted(place.glob("*")) if place.is_dir() else []:
                if path.is_file() and not path.name.startswith("."):
                    found[f"evidence/{path.relative_to(store).as_posix()}"] = path.read_bytes()
    return found


def _contract(status: ContractStatus, report: Report) -> dict[str, Any]:
    return {
        "contract": status.stem,
        "status": status.level.name,
        "claims": [_claim(status, claim, report) for claim in status.claims],
    }


def _claim(status: ContractStatus, claim: Claim, report: Report) -> dict[str, Any]:
    assert status.contract is not None
    subjects = subjects_of(status.contract, claim.part, report.root)
    return {
        "id": claim.id,
        "state": claim.state.value,
        "grade": claim.grade,
        "why": claim.why,
        "live": claim.is_live,
        "subjects": {f"{s.role}:{s.name}": s.sha256 for s in subjects},
    }


def _packed(files: Mapping[str, bytes]) -> bytes:
    """A gzipped tar without times, owners and names of this machine."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    return gzip.compress(plain.getvalue(), mtime=0)


def read_bundle(path: Path) -> Bundle:
    """Read an archive, and hold every member against its digest.

    Raises:
        BundleWrong.
    """
    try:
        files = _members(path)
        manifest: dict[str, Any] = json.loads(files.pop(MANIFEST))
        own = manifest.pop("sha256")
        if own != digest_of(manifest):
            raise BundleWrong(path=str(path), reason=f"{MANIFEST} was changed")
        listed: dict[str, str] = manifest["files"]
        if manifest["pv_bundle"] != 1:
            raise BundleWrong(path=str(path), reason=f"its version is {manifest['pv_bundle']}")
        if sorted(listed) != sorted(files):
            raise BundleWrong(path=str(path), reason="its members are not those that it lists")
        for name, data in files.items():
            if hashlib.sha256(data).hexdigest() != listed[name]:
                raise BundleWrong(path=str(path), reason=f"{name} was changed")
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise BundleWrong(path=str(path), reason=f"{type(error).__name__}: {error}") from None
    return Bundle(manifest=manifest, files=files)


def _members(path: Path) -> dict[str, bytes]:
    """The regular files of an archive by name; nothing is written anywhere."""
    found: dict[str, bytes] = {}
    total = 0
    with tarfile.open(path, mode="r:gz") as archive:
        for member in archive:
            name = PurePosixPath(member.name)
            if not member.isfile() or name.is_absolute() or ".." in name.parts or member.name in found:
                raise BundleWrong(path=str(path), reason=f"{member.name} does not belong into one")
            total += member.size
            if total > _MAX_BYTES:
                raise BundleWrong(path=str(path), reason=f"it unpacks to more than {_MAX_BYTES:,} bytes")
            file = archive.extractfile(member)
            found[member.name] = file.read() if file is not None else b""
    return found
