"""Compute the status of contracts from their evidence; nothing of it is typed by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path

from pv.artifacts import Other
from pv.contract.contract import Contract
from pv.corpus import project_root
from pv.errors import NoContracts
from pv.evidence.store import Damage
from pv.profile import Profile
from pv.review import Judged, review
from pv.status.claim import Claim, State, claim_of
from pv.status.level import Level
from pv.status.milestones import Milestone, milestones_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractStatus:
    """A contract, what is known of its claims, and the status that follows."""

    stem: str
    path: str
    title: str
    level: Level
    own: Level  # before what it depends on has its say
    declared: Level | None
    why_not_higher: tuple[str, ...]
    claims: tuple[Claim, ...]
    depends_on: tuple[str, ...]
    contract: Contract | None = field(default=None, repr=False)

    @property
    def is_overstated(self) -> bool:
        """Whether it declares more than the evidence bears."""
        return self.declared is not None and self.declared > self.level

    @property
    def survived(self) -> int:
        """How many of its claims have survived."""
        return sum(claim.survived for claim in self.claims)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The status of all contracts."""

    contracts: tuple[ContractStatus, ...]
    milestones: tuple[Milestone, ...]
    now: datetime
    root: Path  # of the project

    @property
    def claims(self) -> tuple[Claim, ...]:
        """Of all contracts."""
        return tuple(claim for contract in self.contracts for claim in contract.claims)

    @property
    def damage(self) -> tuple[Damage, ...]:
        """Evidence that was touched, of all claims."""
        return tuple(damage for claim in self.claims for damage in claim.damage)

    @property
    def problems(self) -> tuple[str, ...]:
        """What makes the answer a no, each a sentence."""
        return tuple(_problems(self))


def compute(path: Path, store: Path | None, today: date) -> Report:
    """The status of the contracts that a path names.

    Args:
        path: a file or a folder.
        store: where evidence lies; `evidence` in the root of the project when not given.
        today: what dates are compared with.

    Raises:
        PathMissing, PathUnreadable, NoContracts.
    """
    root = project_root(path)
    folder = path.parent if path.is_file() else path  # what a contract depends on lies beside it
    judged = review(folder, Profile.STRICT, today, project=True)
    place = store or root / "evidence"
    own = {
        status.stem: status
        for one in judged
        if not isinstance(one.artifact, Other)
        for status in [_own(one, root, place)]
    }
    weakest = _weakest(own)
    levels = {stem: _capped(stem, own, weakest) for stem in own}
    contracts = tuple(
        replace(status, level=levels[stem][0], why_not_higher=_reasons(status, levels[stem]))
        for stem, status in own.items()
    )
    now = datetime.now(UTC)
    if path.is_file():
        named = tuple(c for c in contracts if Path(c.path) == path)
        if not named:  # hidden, of another suffix, or milestones: nothing is no yes
            raise NoContracts(path=str(path))
        return Report(contracts=named, milestones=(), now=now, root=root)
    if not contracts:
        raise NoContracts(path=str(path))
    documents = [one.artifact for one in judged if isinstance(one.artifact, Other)]
    milestones = tuple(
        milestone
        for document in documents
        if document.shape == "milestones"
        for milestone in milestones_of(document.root, document.path, {c.stem: c for c in contracts})
    )
    return Report(contracts=contracts, milestones=milestones, now=now, root=root)


def _own(judged: Judged, root: Path, store: Path) -> ContractStatus:
    """The status of a contract by itself."""
    contract = judged.artifact if isinstance(judged.artifact, Contract) else None
    claims = tuple(claim_of(contract, part, root, store) for part in contract.runnable) if contract else ()
    level, why = _level(judged, claims)
    return ContractStatus(
        stem=Path(judged.path).stem,
        path=judged.path,
        title=contract.metadata.description if contract else "it cannot be read",
        level=level,
        own=level,
        declared=Level.of(contract.metadata.status) if contract else None,
        why_not_higher=why,
        claims=claims,
        depends_on=contract.metadata.depends_on if contract else (),
        contract=contract,
    )


def _level(judged: Judged, claims: tuple[Claim, ...]) -> tuple[Level, tuple[str, ...]]:
    """The status that the claims bear, and why it is not the next."""
    if judged.errors:
        first = next(f for f in judged.findings if f.counts and f.severity.value == "error")
        return Level.INVALID, (
            f"{judged.errors} error(s), the first in line {first.place.line}: {first.message}",
        )
    refuted = [claim for claim in claims if claim.state is State.REFUTED]
    if refuted:
        return Level.REFUTED, tuple(f"{claim.id}: {claim.why}" for claim in refuted)
    for level, needed in _needed(claims):
        missing = [claim for claim in needed if not claim.survived]
        if missing or not needed:
            return Level(level - 1), _missing(level, missing)
    return Level.DISCHARGED, ()


def _needed(claims: tuple[Claim, ...]) -> Iterator[tuple[Level, list[Claim]]]:
    """The claims that each status needs. Without parts, any falsifier that has survived is one."""
    tests = [claim for claim in claims if not claim.is_proof]
    parts = [claim for claim in tests if claim.is_part]
    if parts:
        yield Level.PARTIAL_ALGORITHM_LEVEL, parts
    else:
        survived = [claim for claim in tests if claim.survived]
        yield Level.PARTIAL_ALGORITHM_LEVEL, survived or [c for c in tests if not c.is_live]
    yield Level.FUNCTIONAL, [claim for claim in claims if not claim.is_live]
    yield Level.DISCHARGED, [claim for claim in tests if claim.is_live]


def _missing(level: Level, missing: list[Claim]) -> tuple[str, ...]:
    if not missing:
        kind = "live falsifier" if level is Level.DISCHARGED else "falsifier"
        return (f"{level.name} needs a {kind}, and it has none",)
    alike: dict[str, list[str]] = {}
    for claim in missing:
        alike.setdefault(_told(claim), []).append(claim.id)
    # A reason that many claims share is one reason; which they are stands in the list of claims.
    return tuple(
        f"{ids[0]} {told}" + (f", and {len(ids) - 1} more likewise" if len(ids) > 1 else "")
        for told, ids in alike.items()
    )


def _told(claim: Claim) -> str:
    return {
        State.NEVER_RUN: "was never run",
        State.STALE: f"is stale ({claim.why})",
        State.UNCONTROLLED: "survived without its control",
        State.PENDING: f"is {claim.why}",
        State.COULD_NOT_FAIL: f"could not fail ({claim.why})",
        State.UNCONFIRMED: "was not confirmed in time",
    }.get(claim.state, f"gave no answer ({claim.why})")


def _weakest(own: Mapping[str, ContractStatus]) -> dict[str, Level]:
    """The lowest status among a contract and all that it depends on, directly or not; a circle bears nothing up."""
    levels = {
        stem: min([status.own, *(Level.INVALID for other in status.depends_on if other not in own)])
        for stem, status in own.items()
    }
    users: dict[str, list[str]] = {}
    for stem, status in own.items():
        for other in status.depends_on:
            users.setdefault(other, []).append(stem)
    waiting = sorted(
        levels, key=lambda stem: levels[stem], reverse=True
    )  # the lowest is the first to be taken
    while waiting:
        stem = waiting.pop()
        for user in users.get(stem, ()):
            if levels[user] > levels[stem]:
                levels[user] = levels[stem]
                waiting.append(user)
    return levels


def _capped(
    stem: str, own: Mapping[str, ContractStatus], weakest: Mapping[str, Level]
) -> tuple[Level, str | None]:
    """The weakest of a contract and all that it depends on, and the reason when that is not itself."""
    level = weakest[stem]
    if level == own[stem].own:
        return level, None
    for other in own[stem].depends_on:
        if other not in own:
            return level, f"it depends on {other}, which is not among the contracts"
        if weakest[other] == level:
            return level, f"it depends on {other}, which is {level.name}"
    return level, None


def _reasons(status: ContractStatus, capped: tuple[Level, str | None]) -> tuple[str, ...]:
    level, reason = capped
    return (reason, *status.why_not_higher) if reason and level < status.own else status.why_not_higher


def _problems(report: Report) -> Iterator[str]:
    for contract in report.contracts:
        if contract.is_overstated and contract.declared is not None:
            yield f"{contract.stem} declares {contract.declared.name} and the evidence bears {contract.level.name}"
        elif contract.level in (Level.INVALID, Level.REFUTED):
            yield f"{contract.stem} is {contract.level.name}: {contract.why_not_higher[0]}"
    for damage in report.damage:
        yield f"{damage.path}: {damage.what}"
    for milestone in report.milestones:
        if milestone.total == 0:
            yield f"the milestone {milestone.id} names no claim, and nothing is never enough"
        for claim in milestone.unknown:
            yield f"the milestone {milestone.id} needs {claim}, which no contract has"
