"""A contract as one value, and the only way to make one from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pv.contract.blocks import (
    CoqSpec,
    Enforcement,
    Phase,
    QaGate,
    Story,
    Summary,
    TypeInvariant,
    read_coq,
    read_enforcement,
    read_phases,
    read_qa_gate,
    read_story,
    read_summary,
    read_type_invariant,
)
from pv.contract.equation import Equation, read_equations
from pv.contract.falsifier import FalsificationTest, read_falsifier
from pv.contract.fields import Fields
from pv.contract.kinds import Beat, Kaizen, read_beat, read_kaizen
from pv.contract.located import Located
from pv.contract.metadata import Metadata, read_metadata
from pv.contract.obligation import Obligation, read_obligation
from pv.contract.proof import Proof, read_proof
from pv.contract.reading import Problem, Reading, UnknownKey
from pv.profile import Profile
from pv.tree.load import load_text, load_tree, read_bytes
from pv.tree.nodes import Block, Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract(Located):
    """What must hold, what would refute it, and what is shown within bounds."""

    path: str = field(compare=False)  # as it was named
    text: str = field(compare=False, repr=False)
    profile: Profile
    metadata: Metadata
    equations: tuple[Equation, ...]
    obligations: tuple[Obligation, ...]
    tests: tuple[FalsificationTest, ...]
    proofs: tuple[Proof, ...]
    qa_gate: QaGate | None
    phases: tuple[Phase, ...]
    simd_dispatch: Mapping[str, Block]
    enforcement: tuple[Enforcement, ...]
    summary: Summary | None
    type_invariants: tuple[TypeInvariant, ...]
    coq: CoqSpec | None
    beat: Beat | None
    stories: tuple[Story, ...]
    kaizen: Kaizen | None
    unknown_keys: tuple[UnknownKey, ...] = field(compare=False, repr=False)

    @property
    def runnable(self) -> tuple[FalsificationTest | Proof, ...]:
        """What can be run: tests, then proofs."""
        return (*self.tests, *self.proofs)

    @property
    def named(self) -> tuple[Obligation | FalsificationTest | Proof, ...]:
        """Every part that has an id of its own, in order."""
        return (*self.obligations, *self.tests, *self.proofs)

    @property
    def stem(self) -> str:
        """The name that other contracts depend on: the file's, without .yaml."""
        return Path(self.path).stem


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A file that is YAML and no contract: what is wrong with its values."""

    path: str
    text: str = field(repr=False)
    problems: tuple[Problem, ...]


_OURS = {
    "proof_obligations": "obligations",
    "falsification_tests": "tests",
    "kani_harnesses": "proofs",
    "bounded_proofs": "proofs",
    "verification_summary": "summary",
    "coq_spec": "coq",
}
# What other passes of the field read, kept as it was written: a key of these is known, and not typed.
_RAW = (
    "evidence", "entity", "falsification", "falsification_conditions", "categories", "headline", "gates", "spec",
)  # fmt: skip


def load_contract(path: Path, profile: Profile = Profile.STRICT) -> Contract | Unreadable:
    """Read a contract file.

    Args:
        path: a YAML file.
        profile: which keys count.

    Returns:
        The contract, or what is wrong with the values of the file.

    Raises:
        PathMissing, PathUnreadable: there is nothing to read.
        YamlWrong: it is no YAML document.
    """
    text = load_text(read_bytes(path), str(path))
    return read_contract(load_tree(text, str(path)), text, str(path), profile)


def read_contract(root: Node, text: str, path: str, profile: Profile) -> Contract | Unreadable:
    """Read a contract from the tree of its document.

    Args:
        root: the tree.
        text: what the tree was made from.
        path: the name of the file.
        profile: which keys count.
    """
    reading = Reading(profile=profile)
    contract = _contract(Fields(root, "", reading), text, path)
    if reading.problems or contract is None:
        problems = sorted(reading.problems, key=lambda problem: (problem.place.line, problem.place.column))
        return Unreadable(path=path, text=text, problems=tuple(problems))
    return contract


def _contract(f: Fields, text: str, path: str) -> Contract | None:
    v2 = f.later(Profile.PV2)
    metadata = f.child("metadata", read_metadata)
    if metadata is None:
        f.problem(f.node.place, "metadata is missing")
        return None
    for name in _RAW:
        v2.take(name)
    values: dict[str, Any] = {
        "equations": read_equations(f),
        "obligations": f.children("proof_obligations", read_obligation),
        "tests": f.children("falsification_tests", read_falsifier),
        "proofs": _proofs(f),
        "qa_gate": f.child("qa_gate", read_qa_gate),
        "phases": f.child("kernel_structure", read_phases) or (),
        "simd_dispatch": f.named("simd_dispatch", _backends),
        "enforcement": tuple(f.named("enforcement", read_enforcement).values()),
        "summary": f.child("verification_summary", read_summary),
        "type_invariants": v2.children("type_invariants", read_type_invariant),
        "coq": v2.child("coq_spec", read_coq),
        "beat": v2.child("beat", read_beat),
        "stories": v2.children("stories", read_story),
        "kaizen": read_kaizen(v2) if metadata.kind == "kaizen" else None,
    }
    return Contract(
        path=path,
        text=text,
        profile=f.reading.profile,
        metadata=metadata,
        **values,
        **_in_our_words(f.located()),
        unknown_keys=tuple(f.reading.unknown),
    )


def _in_our_words(located: dict[str, Any]) -> dict[str, Any]:
    """The places of blocks under the names that they have here."""
    places = located["places"]
    return {**located, "places": {_OURS.get(name, name): place for name, place in places.items()}}


def _proofs(f: Fields) -> tuple[Proof, ...]:
    """Bounded proofs, under our name for them and the field's."""
    ours = f.later(Profile.STRICT).children("bounded_proofs", read_proof)
    return ours + f.children("kani_harnesses", read_proof)


def _backends(operation: str, f: Fields) -> Block:
    """The functions that carry out an operation, by backend."""
    for entry in f.node.entries:
        f.as_text(entry.value, f.path(entry.key.text))
    return f.node
