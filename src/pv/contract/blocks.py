"""The other blocks of a contract: quality gate, phases, enforcement, type invariants, Coq, and hand-made counts."""

from __future__ import annotations

from dataclasses import dataclass

from pv.contract.fields import Fields
from pv.contract.located import Located
from pv.profile import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class QaGate(Located):
    """What a reviewer checks."""

    id: str
    name: str
    description: str | None
    checks: tuple[str, ...]
    pass_criteria: str | None
    falsification: str | None  # which bug to plant so that the gate must fire


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase(Located):
    """One phase of a kernel."""

    name: str
    description: str
    invariant: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforcement(Located):
    """How a rule is enforced, in words."""

    name: str
    description: str
    check: str | None
    severity: str | None
    reference: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary(Located):
    """Counts that an author declares."""

    total_obligations: int
    l2_property_tested: int
    l3_kani_proved: int
    l4_lean_proved: int
    l4_sorry_count: int
    l4_not_applicable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeInvariant(Located):
    """A predicate that every value of a type satisfies."""

    name: str
    type: str
    predicate: str
    description: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Story(Located):
    """Something that somebody wants, and whose rival has it."""

    id: str | None
    competitor: str | None
    demand_score: float | None
    status: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CoqDefinition(Located):
    """A definition in Coq."""

    name: str
    statement: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CoqObligation(Located):
    """A lemma in Coq, and the obligation that it is for."""

    links_to: str
    coq_lemma: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CoqSpec(Located):
    """What is said in Coq."""

    module: str
    imports: tuple[str, ...]
    definitions: tuple[CoqDefinition, ...]
    obligations: tuple[CoqObligation, ...]


def read_qa_gate(f: Fields) -> QaGate:
    """The quality gate; since the second generation its id and name may be left out."""
    is_v1 = f.reading.profile is Profile.PV1
    return QaGate(
        id=f.text("id") if is_v1 else f.optional_text("id") or "",
        name=f.text("name") if is_v1 else f.optional_text("name") or "",
        description=f.optional_text("description"),
        checks=f.texts("checks"),
        pass_criteria=f.optional_text("pass_criteria"),
        falsification=f.optional_text("falsification"),
        **f.located(),
    )


def read_phases(f: Fields) -> tuple[Phase, ...]:
    """The phases of `kernel_structure`."""
    if f.node.get("phases") is None:
        f.problem(f.node.place, f"{f.path('phases')} is missing")
    phases = f.children("phases", _phase)
    f.located()
    return phases


def _phase(f: Fields) -> Phase:
    return Phase(
        name=f.text("name"),
        description=f.text("description"),
        invariant=f.optional_text("invariant"),
        **f.located(),
    )


def read_enforcement(name: str, f: Fields) -> Enforcement:
    """One rule of `enforcement`."""
    return Enforcement(
        name=name,
        description=f.text("description"),
        check=f.optional_text("check"),
        severity=f.optional_text("severity"),
        reference=f.optional_text("reference"),
        **f.located(),
    )


def read_summary(f: Fields) -> Summary:
    """The counts of `verification_summary`."""
    if f.node.get("total_obligations") is None:
        f.problem(f.node.place, f"{f.path('total_obligations')} is missing")
    return Summary(
        total_obligations=f.count("total_obligations") or 0,
        l2_property_tested=f.count("l2_property_tested") or 0,
        l3_kani_proved=f.count("l3_kani_proved") or 0,
        l4_lean_proved=f.count("l4_lean_proved") or 0,
        l4_sorry_count=f.count("l4_sorry_count") or 0,
        l4_not_applicable=f.count("l4_not_applicable") or 0,
        **f.located(),
    )


def read_type_invariant(f: Fields) -> TypeInvariant:
    """One item of `type_invariants`."""
    return TypeInvariant(
        name=f.text("name"),
        type=f.text("type"),
        predicate=f.text("predicate"),
        description=f.optional_text("description"),
        **f.located(),
    )


def read_story(f: Fields) -> Story:
    """One item of `stories`."""
    competitor = f.optional_text("competitor")
    return Story(
        id=f.optional_text("id"),
        competitor=None if competitor is None else competitor.strip(),
        demand_score=f.number("demand_score"),
        status=f.optional_text("status"),
        **f.located(),
    )


def read_coq(f: Fields) -> CoqSpec:
    """`coq_spec`."""
    return CoqSpec(
        module=f.text("module"),
        imports=f.texts("imports"),
        definitions=f.children("definitions", _coq_definition),
        obligations=f.children("obligations", _coq_obligation),
        **f.located(),
    )


def _coq_definition(f: Fields) -> CoqDefinition:
    return CoqDefinition(name=f.text("name"), statement=f.text("statement"), **f.located())


def _coq_obligation(f: Fields) -> CoqObligation:
    status = f.optional_text("status") or "stub"
    return CoqObligation(
        links_to=f.text("links_to"), coq_lemma=f.text("coq_lemma"), status=status, **f.located()
    )
