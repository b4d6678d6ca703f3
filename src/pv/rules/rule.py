"""What a rule is: a table entry with its page, its check, and an example on either side of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import TypeAlias

from pv.artifacts import Other
from pv.contract.contract import Contract
from pv.corpus import Corpus
from pv.finding import Severity
from pv.profile import Profile
from pv.rules.examples import Example
from pv.tree.nodes import Place

EVERY = frozenset(Profile)
FIELD = frozenset((Profile.PV1, Profile.PV2))
SINCE_PV2 = frozenset((Profile.PV2, Profile.STRICT))
ONLY_PV2 = frozenset((Profile.PV2,))
STRICT = frozenset((Profile.STRICT,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What a rule may look at beside the contract."""

    corpus: Corpus
    today: date
    globs: dict[str, bool] = field(default_factory=dict, repr=False)  # whether each matches, once asked


@dataclass(frozen=True, slots=True)
class Offence:
    """What a check has found: where, the defect as one clause, and what to do."""

    place: Place
    says: str
    fix: str


Check: TypeAlias = Callable[[Contract, Around], Iterator[Offence]]


def _nothing(contract: Contract, around: Around) -> Iterator[Offence]:
    """The check of a rule that the reader or the linter itself speaks for."""
    return iter(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule. Its page is the docstring of its module: a sentence, and then why it is bad."""

    id: str
    name: str  # reads well after "allow"
    page: str = field(repr=False)
    profiles: frozenset[Profile]
    bad: Example = field(repr=False)  # is found
    good: Example = field(repr=False)  # nearly is
    check: Check = field(default=_nothing, repr=False)
    check_document: Callable[[Other, Around], Iterator[Offence]] | None = field(default=None, repr=False)
    severity: Severity = Severity.ERROR
    kernel_only: bool = False  # in the field: other kinds are exempt
    reads_project: bool = False  # looks at files that are no contracts: `pv lint` only

    @property
    def title(self) -> str:
        """The first sentence of the page."""
        return self.page.strip().partition("\n")[0]
