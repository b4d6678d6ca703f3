"""The certificate: every gate, everything that went in by digest, and a digest over it all.

Two digests: `evidence_digest` covers what the same inputs give again on any run (no times, no machine), so that a
checkpoint can name it and stay reproducible byte for byte; `digest` covers the whole document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from apr.base.files import canonical_json, sha256_bytes
from apr.stepzero.gate import GateResult

Grade = Literal["A", "B", "C"]
FORMAT = "apr-certificate-2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What was proven before step 1."""

    grade: Grade | None  # None for a run from scratch: there is no checkpoint to certify
    gates: tuple[GateResult, ...]
    step0: Mapping[str, float | None]  # val_loss, random_init_loss, reference_loss, reference_delta (nats)
    inputs: Mapping[str, str | None]  # digests of what went in, by role
    required: frozenset[str] = frozenset()  # gates that a "yes" must rest on
    environment: Mapping[str, Any]  # versions, device, compute type

    @property
    def verdict(self) -> str:
        """`yes` when no gate said no and none is missing. One that does not know lowers the grade, not the verdict."""
        refused = any(gate.verdict == "no" for gate in self.gates)
        return "no" if refused or self.not_judged else "yes"

    @property
    def not_judged(self) -> tuple[str, ...]:
        """Required gates that were not reached: the first "no" ends the judgement."""
        return tuple(sorted(self.required - {gate.id for gate in self.gates}))

    @property
    def first_refusal(self) -> GateResult | None:
        """The first gate that said no."""
        return next((gate for gate in self.gates if gate.verdict == "no"), None)

    @property
    def comparison(self) -> str | None:
        """How the weights were judged: equality with a reference, or a band."""
        if self.grade is None:
            return None
        return "band" if self.grade == "C" else "equality"

    @property
    def evidence_digest(self) -> str:
        """SHA-256 over what the same inputs give again."""
        gates = [{k: v for k, v in gate.to_dict().items() if k != "seconds"} for gate in self.gates]
        evidence = {
            "grade": self.grade,
            "verdict": self.verdict,
            "not_judged": list(self.not_judged),
            "gates": gates,
            "step0": dict(self.step0),
            "inputs": dict(self.inputs),
        }
        return sha256_bytes(canonical_json(evidence))

    def to_dict(self) -> dict[str, Any]:
        """The document, with its own digest last."""
        document = {
            "format": FORMAT,
            "grade": self.grade,
            "verdict": self.verdict,
            "comparison": self.comparison,
            "not_judged": list(self.not_judged),
            "gates": [gate.to_dict() for gate in self.gates],
            "step0": dict(self.step0),
            "inputs": dict(self.inputs),
            "environment": dict(self.environment),
            "evidence_digest": self.evidence_digest,
        }
        return {**document, "digest": sha256_bytes(canonical_json(document))}


def grade_of(reference_grade: str | None, gates: Sequence[GateResult]) -> Grade:
    """The grade a checkpoint earns: its reference's when that was met, else C."""
    verdicts = {gate.verdict for gate in gates if gate.id.startswith("reference.")}
    if reference_grade in ("A", "B") and verdicts == {"yes"}:  # none at all is not met
        return "A" if reference_grade == "A" else "B"
    return "C"
