"""What a verdict speaks about, by digest: the claim, the source of its runner, and the files that it watches."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pv.contract.contract import Contract
from pv.contract.falsifier import FalsificationTest
from pv.contract.obligation import Obligation
from pv.contract.proof import Proof
from pv.contract.runner import CommandRunner, MeasureRunner, PytestRunner, PythonRunner
from pv.evidence.canonical import digest_of, plain
from pv.rules.project_files import is_relative

# When and whether a claim is run is not what it claims.
_NOT_CLAIMED = frozenset(("pending", "timeout_s", "needs"))
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Subject:
    """A thing with its digest."""

    role: str  # "claim", "runner", "subject"
    name: str  # of a claim "STEM/ID"; of a file its path from the root
    sha256: str


def subjects_of(contract: Contract, part: FalsificationTest | Proof, root: Path) -> tuple[Subject, ...]:
    """What a verdict on a claim speaks about, as it is now.

    Args:
        contract: that makes the claim.
        part: the claim.
        root: of the project.
    """
    claim = Subject(role="claim", name=f"{contract.stem}/{part.id}", sha256=claim_digest(contract, part))
    sources = dict.fromkeys(_sources(part, root), "runner")
    files = dict.fromkeys(_watched(part.subjects, root), "subject")
    found = [
        Subject(role=role, name=path.relative_to(root).as_posix(), sha256=file_digest(path))
        for path, role in sorted({**files, **sources}.items())
    ]
    return (claim, *found)


def claim_digest(contract: Contract, part: FalsificationTest | Proof) -> str:
    """The digest of a claim with the obligations that it is about, without comments, formatting, and when to run it."""
    about = set(part.refutes) if isinstance(part, FalsificationTest) else {part.obligation}
    obligations = [plain(o) for o in _obligations(contract, about)]
    return digest_of({"contract": contract.stem, "part": plain(part, _NOT_CLAIMED), "about": obligations})


def _obligations(contract: Contract, ids: set[str]) -> list[Obligation]:
    return [obligation for obligation in contract.obligations if obligation.id in ids]


def _watched(globs: tuple[str, ...], root: Path) -> Iterator[Path]:
    for glob in globs:
        if not is_relative(glob):
            continue
        try:
            yield from (path for path in root.glob(glob) if _is_watched(path.relative_to(root).parts, path))
        except (ValueError, NotImplementedError):  # no pattern at all, which a rule says
            continue


def _is_watched(parts: tuple[str, ...], path: Path) -> bool:
    """Whether a file that a glob matches is one of the project, and not what Python, git or pv writes there."""
    return "__pycache__" not in parts and parts[0] not in (".git", "evidence") and path.is_file()


def _sources(part: FalsificationTest | Proof, root: Path) -> Iterator[Path]:
    """The files of the project that hold the runner, and what its controls plant."""
    for name in _named(part):
        if is_relative(name) and os.path.isfile(
            root / name
        ):  # a word of a command may be too long for a path
            yield root / name
    for target in _targets(part):
        yield from _modules(target.partition(":")[0], root)


def _named(part: FalsificationTest | Proof) -> Iterator[str]:
    """Paths from the root that the runner names."""
    runner = part.runner
    if isinstance(runner, PytestRunner):
        for node_id in runner.node_ids:
            file = node_id.partition("[")[0].partition("::")[0]
            yield file
            yield from (f"{folder}/conftest.py".removeprefix("./") for folder in map(str, Path(file).parents))
    elif isinstance(runner, CommandRunner | MeasureRunner):
        yield from runner.argv


def _targets(part: FalsificationTest | Proof) -> Iterator[str]:
    """Attributes of modules that the runner or a control names."""
    runner = part.runner
    if isinstance(runner, PythonRunner):
        yield runner.target
    if isinstance(part, Proof) and part.runner is not None:
        yield from filter(None, (part.runner.target, part.runner.domain))
    for control in part.controls:
        if control.replacement is not None and control.replacement.how in ("with", "raises"):
            yield str(control.replacement.value)


def _modules(module: str, root: Path) -> Iterator[Path]:
    way = module.replace(".", "/")
    candidates = [
        root / base / f"{way}{end}" for base in ("", "src", "tests") for end in (".py", "/__init__.py")
    ]
    yield from (path for path in candidates if path.is_file())


def file_digest(path: Path) -> str:
    """The sha256 of a file, in hex; read again only when the file has changed."""
    held = path.stat()
    return _digest(path, held.st_size, held.st_mtime_ns, held.st_ino, held.st_ctime_ns)


@lru_cache(maxsize=65536)
def _digest(path: Path, size: int, mtime_ns: int, inode: int, ctime_ns: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def differences(before: tuple[Subject, ...], now: tuple[Subject, ...]) -> tuple[str, ...]:
    """What is not as it was, each a clause.

    Args:
        before: when the verdict was given.
        now: as it is.
    """
    old = {(s.role == "claim", s.name): s.sha256 for s in before}
    new = {(s.role == "claim", s.name): s.sha256 for s in now}
    clauses = []
    for key in sorted({**old, **new}, key=lambda key: (not key[0], key[1])):
        if old.get(key) != new.get(key):
            clauses.append(_difference(key, key in old, key in new))
    return tuple(clauses)


def _difference(key: tuple[bool, str], was: bool, stands: bool) -> str:
    is_claim, name = key
    if is_claim:
        return "the claim was changed" if was and stands else f"it is about {name}"
    if not was:
        return f"{name} is new"
    return f"{name} was changed" if stands else f"{name} is gone"
