"""What stands between a change and the main line: weaker claims, versions that do not follow, stale evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pv.change.base import artifacts_at, merge_base, touched
from pv.change.change import Change
from pv.change.compare import compare_all
from pv.change.compare_milestones import compare_milestones
from pv.change.version import bump_of, follows, next_version
from pv.change.waivers import FILE, Waiver, read_waivers, waived
from pv.contract.contract import Contract
from pv.corpus import Corpus
from pv.evidence.subjects import subjects_of
from pv.run.reading import read_contracts
from pv.status.claim import Claim, State
from pv.status.compute import Report, compute


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a change does to the contracts, and what of it is in the way."""

    base: str  # the commit that was compared with
    changes: tuple[Change, ...]
    waivers: Mapping[int, Waiver]  # of changes that may be, by their number
    blocked: tuple[str, ...]  # each a sentence


def gate(path: Path, ref: str, *, live: bool, store: Path | None, today: date) -> Gate:
    """Hold the contracts of a folder against those of a commit.

    Args:
        path: the folder.
        ref: a commit, branch or tag; compared is the commit where the work since then began.
        live: whether live claims must be fresh too.
        store: where evidence lies; `evidence` in the root of the project when not given.
        today: what dates are compared with.

    Raises:
        NoBase, NotComparable, WaiversWrong, PathMissing, NoContracts.
    """
    report = compute(path, store, today)
    root = report.root
    base = merge_base(root, ref)
    then = artifacts_at(root, base, path)
    before = Corpus.of([was for was in then if isinstance(was, Contract)], root).contracts
    after = {c.stem: c.contract for c in report.contracts if c.contract is not None}
    changes = (*compare_all(before, after), *compare_milestones(then, read_contracts(path).artifacts))
    waivers = read_waivers(path / FILE)
    covering = {i: found for i, change in enumerate(changes) if (found := waived(change, waivers))}
    blocked = (
        *_weaker(changes, covering),
        *_versions(before, after, changes),
        *_unreadable(report),
        *_stale(report, touched(root, base), root, before, live),
    )
    return Gate(base=base, changes=changes, waivers=covering, blocked=blocked)


def _weaker(changes: tuple[Change, ...], covering: Mapping[int, Waiver]) -> Iterator[str]:
    for i, change in enumerate(changes):
        if change.must_be_waived and i not in covering:
            yield f"{change.contract}/{change.claim} was {change.kind.value} ({change.says}) without a waiver"


def _versions(
    before: Mapping[str, Contract], after: Mapping[str, Contract], changes: tuple[Change, ...]
) -> Iterator[str]:
    for stem in sorted({*before} & {*after}):
        bump = bump_of(change for change in changes if change.contract == stem)
        old, new = before[stem].metadata.version, after[stem].metadata.version
        if bump in ("minor", "major") and not follows(old, new, bump):
            least = next_version(old, bump) or "a version of three numbers"
            yield f"{stem} has the version {new}, and its changes since {old} make it {least}"


def _unreadable(report: Report) -> Iterator[str]:
    for contract in report.contracts:
        if contract.contract is None:
            yield f"{contract.path} cannot be read: {contract.why_not_higher[0]}"


def _stale(
    report: Report, names: frozenset[str], root: Path, before: Mapping[str, Contract], live: bool
) -> Iterator[str]:
    """Claims that the change touches, in their text or in a file, and that have not survived since."""
    for status in report.contracts:
        if status.contract is None:
            continue
        for claim in status.claims:
            is_asked = live or not claim.is_live
            if is_asked and claim.state is not State.PENDING and not claim.survived:
                touches = _touches(status.contract, claim, names, root, before.get(status.stem))
                if touches:
                    yield f"{status.stem}/{claim.id} is touched ({touches}) and is {claim.state.value}: {claim.why}"


def _touches(
    contract: Contract, claim: Claim, names: frozenset[str], root: Path, before: Contract | None
) -> str | None:
    """What of a claim the change touches; None when nothing."""
    now = subjects_of(contract, claim.part, root)
    for subject in now:
        if subject.role != "claim" and subject.name in names:
            return subject.name
    old = next((part for part in before.runnable if part.id == claim.id), None) if before else None
    if before is None or old is None:
        return "it is new"
    then = subjects_of(before, old, root)[0]
    return None if then.sha256 == now[0].sha256 else "its text"
