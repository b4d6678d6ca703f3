"""Every change of a contract of ours is found by a rule or classified by a diff, but for what the page lists."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

import pytest

from pv.change.change import Change, Kind
from pv.change.compare import compare_contracts
from pv.contract.contract import Contract, load_contract, read_contract
from pv.corpus import Corpus
from pv.judge import judge
from pv.profile import Profile
from pv.rules.rule import Around
from pv.tree.load import load_tree
from pv_mutants import Mutant, mutants

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "pv-design.md"
PATHS = [
    p for p in sorted((ROOT / "contracts").glob("*.yaml")) if "\nmetadata:" in "\n" + p.read_text("utf-8")
]
GLOBS: dict[str, bool] = {}  # the files of the project do not change meanwhile
AT_LEAST = 14_500  # mutants, so that a walk that ends early is noticed


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a mutant."""

    mutant: Mutant
    is_read: bool
    found: frozenset[str]  # rules; not asked where the diff is enough
    changes: tuple[Change, ...]

    @property
    def kinds(self) -> set[Kind]:
        return {change.kind for change in self.changes}

    @property
    def label(self) -> str:
        """How a reader of the page would name it; a value that went is named where others of its key may stay."""
        name, was = self.mutant.key, self.mutant.was
        return f"{name}: {was}" if was and self.mutant.how in ("delete", "null") else name


@cache
def contracts() -> dict[Path, Contract]:
    read = {path: load_contract(path) for path in PATHS}
    return {path: contract for path, contract in read.items() if isinstance(contract, Contract)}


@cache
def outcomes(path: Path) -> tuple[Outcome, ...]:
    whole = contracts()[path]
    # The root that a contract keeps is its document's, read again so that nothing of it is shared with the corpus.
    root = load_tree(whole.text, whole.path)
    return tuple(outcome(whole, mutant) for mutant in mutants(root))


def outcome(whole: Contract, mutant: Mutant) -> Outcome:
    mutated = read_contract(mutant.root, whole.text, whole.path, Profile.STRICT)
    if not isinstance(mutated, Contract):
        return Outcome(mutant=mutant, is_read=False, found=frozenset(["PARSE-001"]), changes=())
    changes = compare_contracts(whole, mutated)
    is_asked = mutant.how in ("misspell", "typo") or not any(change.must_be_waived for change in changes)
    found = rules(mutated, project=False) if is_asked else frozenset()
    if not found and (not changes or mutant.how == "typo"):
        found = rules(mutated, project=True)
    return Outcome(mutant=mutant, is_read=True, found=found, changes=changes)


def rules(contract: Contract, *, project: bool) -> frozenset[str]:
    """Rules that find something in a contract among the others."""
    others = [other for other in contracts().values() if other.stem != contract.stem]
    around = Around(corpus=Corpus.of([contract, *others], ROOT), today=date(2026, 11, 24), globs=GLOBS)
    return frozenset(f.rule for f in judge(contract, around, Profile.STRICT, project=project))


def every() -> list[Outcome]:
    return [outcome for path in PATHS for outcome in outcomes(path)]


def test_all_of_ours_are_looked_at() -> None:
    assert len(contracts()) == len(PATHS) >= 6
    assert not any(rules(contract, project=True) for contract in contracts().values())
    assert len(every()) >= AT_LEAST


def test_what_nothing_finds_is_what_the_page_lists() -> None:
    passed = {(o.mutant.how, o.label) for o in every() if not o.found and not o.changes}
    order = {o.mutant.key for o in every() if o.mutant.how == "swap"}
    assert passed == set(listed(order))


def listed(order: set[str]) -> list[tuple[str, str]]:
    """The rows of the page: how, of what; "all but" is about the order of keys and items."""
    table = PAGE.read_text("utf-8").partition("<!-- same -->\n")[2].partition("<!-- end of same -->")[0]
    rows: list[tuple[str, str]] = []
    for line in table.splitlines()[2:]:
        _, how, of, why, _ = line.split("|")
        assert why.strip()
        names = re.findall(r"`([^`]+)`", of)
        if of.strip().startswith("all but"):
            assert set(names) <= order
            names = sorted(order - set(names))
        rows += [(word, name) for word in re.findall(r"`(\w+)`", how) for name in names]
    return rows


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_misspelled_key_is_found_unless_it_is_a_free_name(path: Path) -> None:
    missed = {o.mutant.key for o in outcomes(path) if o.mutant.how == "misspell" and not o.found}
    assert missed <= {"equations.NAME"}


NAMES = (
    r".*\.runner\.pytest(\[\])?", r".*\.runner\.(exhaustive|domain)", r".*\.subjects\[\]", r".*\.refutes\[\]",
    r".*\.control(\[\])?\.(patch|with|edit|replace)", r".*depends_on\[\]", r"bounded_proofs\[\]\.obligation",
)  # fmt: skip


# The parameters of a test, what a class may have from another, and what another package holds are known when they run.
UNKNOWABLE = r"\]$|^torch[.:]|:(Linear|RMSNorm|FileMissing|AprError|NotAprFile)\.\w+$"


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_nothing_is_found_by_lint(name: str) -> None:
    mine = [o for o in every() if o.mutant.how == "typo" and re.fullmatch(name, o.mutant.key)]
    judged = [o for o in mine if not re.search(UNKNOWABLE, o.mutant.was)]
    assert judged
    assert not [(o.mutant.key, o.mutant.was) for o in judged if not o.found]


T, P = r"falsification_tests\[\]", r"bounded_proofs\[\]"
WEAKER = {
    "up|delete|null": r"proof_obligations\[\]\.tolerance",
    "down|delete|null": rf"{P}\.(bound|runner\.size)",
    "delete|null|flip": rf"{T}\.live",
    "delete|null|empty": rf"({T}|{P})\.(control|subjects)|{T}\.refutes|equations\.NAME\.invariants",
    "delete": rf"{T}\.(control|runner\.pytest|refutes|subjects)\[\]|.*\.invariants\[\]|metadata\.depends_on\[\]",
    "down": rf"{T}\.runner\.figure\.value",
    "null|delete": rf"{T}\.runner\.figure",
}
STRONGER = {
    "down": r"proof_obligations\[\]\.tolerance",
    "up": rf"{P}\.(bound|runner\.size)|{T}\.runner\.figure\.value",
    "delete|null|empty": rf"{T}\.needs",
    "delete": rf"{T}\.needs\[\]",
}
GONE = {
    "delete": rf"{T}|{P}|proof_obligations\[\]|equations\.NAME|equations|falsification_tests|bounded_proofs"
}
ANOTHER = {
    "number|negate": rf"{T}\.(prediction|rule)|.*\.property|.*\.formal",
    "number|negate|word|other|typo": r"equations\.NAME\.(formula|domain)",
    "delete|swap|word|number|double": rf"{T}\.runner\.command\[\]",
    "up": rf"{T}\.runner\.exit_code",
    "word|typo|negate": rf"{T}\.runner\.figure\.(json|unit)",
    "other": r"metadata\.kind|proof_obligations\[\]\.type",
    "typo|other": rf"{P}\.(runner\.exhaustive|runner\.domain|obligation)",
}
TABLES = (
    (WEAKER, {Kind.WEAKENED}),
    (STRONGER, {Kind.STRENGTHENED}),
    (GONE, {Kind.REMOVED}),
    (ANOTHER, {Kind.CHANGED}),
)
WORDS = r"metadata\.(description|references|created|status).*|.*\.if_fails|.*\.timeout_s"


def matching(how: str, key: str) -> list[Outcome]:
    return [o for o in every() if re.fullmatch(how, o.mutant.how) and re.fullmatch(key, o.mutant.key)]


@pytest.mark.parametrize(
    ("how", "key", "kinds"), [(how, key, kinds) for table, kinds in TABLES for how, key in table.items()]
)
def test_the_direction_is_the_right_one(how: str, key: str, kinds: set[Kind]) -> None:
    read = [o for o in matching(how, key) if o.is_read and o.changes]
    assert read
    assert not [(o.mutant.how, o.mutant.key, o.mutant.was, o.changes) for o in read if o.kinds != kinds]


def test_what_needs_no_waiver_is_stronger_or_claims_nothing() -> None:
    free = {id(o) for how, key in STRONGER.items() for o in matching(how, key)}
    free |= {id(o) for o in [*matching(".*", WORDS), *matching("other", rf"{P}\.(bound|runner\.size)")]}
    let_pass = [
        o for o in every() if o.changes and not o.found and not any(c.must_be_waived for c in o.changes)
    ]
    assert not [(o.mutant.how, o.mutant.key, o.changes) for o in let_pass if id(o) not in free]
