"""`proof_obligations:` what must be shown, each with an id that tests and proofs refer to."""

from __future__ import annotations

from dataclasses import dataclass

from pv.contract.fields import Fields
from pv.contract.located import Located
from pv.profile import Profile

TYPES_V1 = (
    "invariant", "equivalence", "bound", "monotonicity", "idempotency", "linearity", "symmetry", "associativity",
    "conservation", "ordering", "completeness", "soundness",
)  # fmt: skip
TYPES = (
    *TYPES_V1,
    "involution", "determinism", "roundtrip", "state_machine", "classification", "independence", "termination",
    "safety", "liveness", "precondition", "postcondition", "frame", "loop_invariant", "loop_variant", "old_state",
    "subcontract",
)  # fmt: skip
LEAN_STATUS = ("proved", "sorry", "wip", "not-applicable")
NOT_APPLICABLE = "not_applicable"
_APPLIES_TO = ("all", "scalar", "simd", "converter", NOT_APPLICABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lean(Located):
    """A theorem in Lean that somebody names."""

    theorem: str
    module: str | None
    status: str
    depends_on: tuple[str, ...]
    mathlib_imports: tuple[str, ...]
    notes: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Obligation(Located):
    """What must be shown."""

    id: str | None
    type: str
    property: str
    formal: str | None
    tolerance: float | None
    applies_to: str | None  # one of the field's words, or "other"
    requires: str | None
    applies_to_phase: str | None
    parent_contract: str | None
    na_reason: str | None
    na_owner: str | None
    lean: Lean | None


def read_obligation(f: Fields) -> Obligation:
    """One obligation, from its fields."""
    v2 = f.later(Profile.PV2)
    return Obligation(
        id=v2.optional_text("id"),
        type=_type(f),
        property=_property(f),
        formal=f.optional_text("formal", *_later(f, "verification")),
        tolerance=f.number("tolerance"),
        applies_to=_applies_to(f.optional_text("applies_to")),
        requires=v2.optional_text("requires"),
        applies_to_phase=v2.optional_text("applies_to_phase"),
        parent_contract=v2.optional_text("parent_contract"),
        na_reason=v2.optional_text("na_reason"),
        na_owner=v2.optional_text("na_owner"),
        lean=f.child("lean", _read_lean),
        **f.located(),
    )


def _later(f: Fields, *aliases: str) -> tuple[str, ...]:
    """Spellings that came with the second generation."""
    return aliases if f.reading.profile > Profile.PV1 else ()


def _type(f: Fields) -> str:
    if f.reading.profile > Profile.PV1:
        return f.choice("type", TYPES, "invariant") or "invariant"
    return f.choice("type", TYPES_V1, required=True) or "invariant"


def _property(f: Fields) -> str:
    return f.text("property", *_later(f, "statement"))


def _applies_to(word: str | None) -> str | None:
    return word if word is None or word in _APPLIES_TO else "other"


def _read_lean(f: Fields) -> Lean:
    return Lean(
        theorem=f.text("theorem"),
        module=f.optional_text("module"),
        status=f.choice("status", LEAN_STATUS, "sorry") or "sorry",
        depends_on=f.texts("depends_on"),
        mathlib_imports=f.texts("mathlib_imports"),
        notes=f.optional_text("notes"),
        **f.located(),
    )
