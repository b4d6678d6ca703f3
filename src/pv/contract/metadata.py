"""`metadata:` who says it, what kind of contract it is, and what it depends on."""

from __future__ import annotations

from dataclasses import dataclass

from pv.contract.fields import Fields
from pv.contract.located import Located
from pv.profile import Profile
from pv.tree.nodes import Block

KINDS = (
    "kernel", "registry", "model-family", "model-family-variant", "tokenizer", "training-loop",
    "pretraining-corpus", "training-precondition-gate", "corpus-assembly", "pattern", "schema", "beat-benchmark",
    "kaizen",
)  # fmt: skip
ENFORCEMENT_LEVELS = ("basic", "standard", "strict", "proven")
STATUSES = (
    "PROPOSED",
    "PARTIAL_ALGORITHM_LEVEL",
    "FUNCTIONAL",
    "DISCHARGED",
)  # that can be declared, in order
INTAKE = ("missing", "partial", "supported", "unclear")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata(Located):
    """The head of a contract."""

    version: str
    description: str
    created: str | None
    updated: str | None
    author: str | None
    references: tuple[str, ...]
    depends_on: tuple[str, ...]  # stems of other contracts
    kind: str
    registry: bool
    status: str | None  # declared by hand; what counts is computed
    enforcement_level: str | None
    locked_level: str | None
    competitor: str | None
    demand_score: float | None
    intake_status: str | None
    proved_type: str | None
    valid_under: ValidUnder | None

    @property
    def kind_was_given(self) -> bool:
        """Whether the kind stands in the file, rather than being the default."""
        return self.has("kind") or self.registry


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidUnder(Located):
    """Where the claims are meant to hold."""

    world: str | None
    toolchain: Block | None
    host_class: tuple[str, ...]
    backend: tuple[str, ...]
    features: tuple[str, ...]


def read_metadata(f: Fields) -> Metadata:
    """The head of a contract, from its fields."""
    v2 = f.later(Profile.PV2)
    registry = v2.flag("registry")
    return Metadata(
        version=f.text("version"),
        description=f.text("description"),
        created=f.optional_text("created"),
        updated=v2.optional_text("updated"),
        author=f.optional_text("author"),
        references=f.texts("references"),
        depends_on=f.texts("depends_on"),
        kind=_kind(v2, registry),
        registry=registry,
        status=v2.optional_text("status"),
        enforcement_level=v2.choice("enforcement_level", ENFORCEMENT_LEVELS),
        locked_level=v2.optional_text("locked_level"),
        competitor=_stripped(v2.optional_text("competitor")),
        demand_score=v2.number("demand_score"),
        intake_status=v2.choice("intake_status", INTAKE),
        proved_type=v2.optional_text("proved_type"),
        valid_under=v2.child("valid_under", _read_valid_under),
        **_with_changelog(v2).located(),
    )


def _with_changelog(f: Fields) -> Fields:
    f.take("changelog")  # whatever it holds: nothing reads it
    return f


def _kind(f: Fields, registry: bool) -> str:
    kind = f.choice("kind", KINDS, "kernel") or "kernel"
    return "registry" if registry and kind == "kernel" else kind


def _stripped(text: str | None) -> str | None:
    return None if text is None else text.strip()


def _read_valid_under(f: Fields) -> ValidUnder:
    toolchain = f.take("toolchain")
    return ValidUnder(
        world=f.optional_text("world"),
        toolchain=toolchain if isinstance(toolchain, Block) else None,
        host_class=f.one_or_more("host_class"),
        backend=f.one_or_more("backend"),
        features=f.one_or_more("features"),
        **f.located(),
    )
