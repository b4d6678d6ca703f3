"""A certificate's digests follow everything they should, and nothing else."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from apr.base.files import canonical_json, sha256_bytes
from apr.stepzero.certificate import FORMAT, Certificate, grade_of
from apr.stepzero.gate import GateResult, Verdict


def gate(verdict: Verdict = "yes", gate_id: str = "loss.step0", **changes: Any) -> GateResult:
    given: dict[str, Any] = {"figure": 1.0, "limit": 2.0, "facts": {"n": 1}, "seconds": 0.5, **changes}
    return GateResult(id=gate_id, claim="it holds", verdict=verdict, **given)


CERTIFICATE = Certificate(
    grade="A",
    gates=(gate(gate_id="reference.loss"), gate()),
    step0={"val_loss": 2.0, "random_init_loss": 6.9, "reference_loss": 3.0, "reference_delta": 0.0},
    inputs={"init": "ab", "plan": "cd"},
    environment={"device": "cpu", "versions": {"torch": "2"}},
)


@pytest.mark.parametrize(
    "changes",
    [
        {"grade": "B"},
        {"gates": (gate(gate_id="reference.loss"),)},
        {"gates": (gate(gate_id="reference.loss"), gate(figure=1.0000001))},
        {"gates": (gate(gate_id="reference.loss"), gate(facts={"n": 2}))},
        {"gates": (gate(gate_id="reference.loss"), gate("not known"))},
        {"gates": (gate(gate_id="reference.loss"), gate(cause="it is too high"))},
        {"required": frozenset({"update.slope"})},
        {"step0": {**CERTIFICATE.step0, "val_loss": 2.0000001}},
        {"inputs": {"init": "ac", "plan": "cd"}},
    ],
)
def test_evidence_that_changes_changes_both_digests(changes: dict[str, Any]) -> None:
    other = replace(CERTIFICATE, **changes)
    assert other.evidence_digest != CERTIFICATE.evidence_digest
    assert other.to_dict()["digest"] != CERTIFICATE.to_dict()["digest"]


@pytest.mark.parametrize(
    "changes",
    [
        {"gates": tuple(replace(item, seconds=9.0) for item in CERTIFICATE.gates)},
        {"environment": {"device": "cuda:0"}},
    ],
)
def test_times_and_machines_change_the_documents_digest_only(changes: dict[str, Any]) -> None:
    other = replace(CERTIFICATE, **changes)
    assert other.evidence_digest == CERTIFICATE.evidence_digest
    assert other.to_dict()["digest"] != CERTIFICATE.to_dict()["digest"]


def test_the_digest_is_of_the_document_without_it() -> None:
    document = json.loads(json.dumps(CERTIFICATE.to_dict()))
    digest = document.pop("digest")
    assert digest == sha256_bytes(canonical_json(document))
    assert list(document) == [
        *("format", "grade", "verdict", "comparison", "not_judged", "gates", "step0", "inputs"),
        *("environment", "evidence_digest"),
    ]
    assert document["format"] == FORMAT == "apr-certificate-2"
    assert set(document["gates"][0]) == {
        *("id", "claim", "verdict", "figure", "limit", "cause", "seconds", "facts")
    }


def test_a_figure_that_is_not_finite_can_be_sealed() -> None:
    sealed = replace(CERTIFICATE, gates=(gate("no", figure=math.nan, facts={"loss": math.inf}),)).to_dict()
    assert sealed["gates"][0]["figure"] == "nan"
    json.dumps(sealed, allow_nan=False)


@pytest.mark.parametrize(
    ("verdicts", "verdict", "first"),
    [
        (("yes", "yes"), "yes", None),
        (("yes", "not known"), "yes", None),
        (("not known", "no", "no"), "no", 1),
    ],
)
def test_one_no_is_no(verdicts: tuple[Verdict, ...], verdict: str, first: int | None) -> None:
    found = replace(CERTIFICATE, gates=tuple(gate(v, str(i)) for i, v in enumerate(verdicts)))
    assert found.verdict == verdict
    refusal = found.first_refusal
    assert (refusal.id if refusal else None) == (None if first is None else str(first))


def test_a_required_gate_that_was_not_judged_is_a_no() -> None:
    whole = replace(CERTIFICATE, required=frozenset({"reference.loss", "loss.step0"}))
    assert (whole.verdict, whole.not_judged) == ("yes", ())
    short = replace(CERTIFICATE, required=whole.required | {"update.slope", "model.built"})
    assert (short.verdict, short.not_judged) == ("no", ("model.built", "update.slope"))
    assert short.first_refusal is None
    assert short.to_dict()["not_judged"] == ["model.built", "update.slope"]


@pytest.mark.parametrize(
    ("recorded", "verdicts", "grade"),
    [
        ("A", ("yes", "yes"), "A"),
        ("B", ("yes", "yes"), "B"),
        ("A", ("yes", "no"), "C"),
        ("A", ("not known",), "C"),
        ("A", (), "C"),  # recorded and never judged
        (None, ("not known",), "C"),
        ("Z", ("yes", "yes"), "C"),
    ],
)
def test_a_grade_is_earned(recorded: str | None, verdicts: tuple[Verdict, ...], grade: str) -> None:
    judged = [gate(verdict, f"reference.{i}") for i, verdict in enumerate(verdicts)]
    assert grade_of(recorded, [gate(), *judged]) == grade


@pytest.mark.parametrize(
    ("grade", "comparison"), [("A", "equality"), ("B", "equality"), ("C", "band"), (None, None)]
)
def test_how_the_weights_were_judged(grade: Any, comparison: str | None) -> None:
    assert replace(CERTIFICATE, grade=grade).comparison == comparison
