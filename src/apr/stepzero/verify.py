"""A certificate judged again, from its own bytes: neither weights nor torch are needed.

The document is made into a `Certificate` again, whose own properties say what the digests, the verdict and the
comparison have to be: there is one computation of each, and it is the one that sealed the certificate.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import eq, le
from typing import Any

from apr.base.files import canonical_json, sha256_bytes
from apr.stepzero.certificate import FORMAT, Certificate, grade_of
from apr.stepzero.gate import GateResult, Verdict, verdict_of
from apr.stepzero.registry import OF_DOCUMENTS, required_gates

_VERDICTS = ("yes", "no", "not known")
_SIGNS = (b'"evidence_digest"', b'"apr-certificate-')  # no edit of one place removes both

# Gates that their figure and their limit decide: a yes says that they stand so, and a no that they do not.
_DECIDED: dict[str, Callable[[float, float], bool]] = {
    **dict.fromkeys(
        ("reference.blocks", "reference.loss", "reference.training", "tokens.ids", "model.rows"), le
    ),
    **dict.fromkeys(
        ("tokens.split", "weights.coverage", "weights.values", "model.built", "log.messages"), eq
    ),
    "optimizer.schedule": eq,
}
# Gates that ask for more than their figure shows: a yes says that it stands so, and a no may have another reason.
_BOUNDED: dict[str, Callable[[float, float], bool]] = {
    **dict.fromkeys(("weights.memory", "weights.untouched", "optimizer.settings", "update.changes"), eq),
    **dict.fromkeys(("tokens.sample", "tokens.probe", "optimizer.fresh", "update.gradients"), eq),
    **dict.fromkeys(("model.repeatable", "model.causal"), eq),
    **dict.fromkeys(("update.size", "update.loss", "update.slope"), le),
    **dict.fromkeys(("resume.start", "resume.subset", "adapters.start"), eq),
    "adapters.merge": le,
    "resume.loss": le,
}
# Where a certificate says a thing twice: (section, key), (gate, where in it).
_REPEATED = (
    (("step0", "val_loss"), ("loss.step0", "figure")),
    (("step0", "random_init_loss"), ("loss.random_init", "figure")),
    (("step0", "reference_delta"), ("reference.loss", "figure")),
    (("step0", "reference_loss"), ("reference.loss", "reference_loss")),
    (("inputs", "init"), ("file.container", "file_digest")),
    (("inputs", "config"), ("file.config", "config")),
    (("inputs", "tokenizer"), ("tokens.tokenizer", "sha256")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One claim, held against what it can be re-derived from."""

    id: str
    claim: str
    verdict: Verdict
    found: str | float | int | None
    expected: str | float | int | None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}


def compared(check_id: str, claim: str, found: Any, expected: Any) -> Check:
    """Claim that two JSON values are the same, in type too."""
    same = canonical_json(found) == canonical_json(expected)
    return Check(
        id=check_id, claim=claim, verdict=verdict_of(same), found=shown(found), expected=shown(expected)
    )


def shown(value: Any) -> str | float | int | None:
    """A value that fits into a sentence: of what is nested only the digest."""
    if isinstance(value, dict | list):
        return f"sha256 {sha256_bytes(canonical_json(value))}"
    return value if value is None or isinstance(value, int | float) else str(value)


def unjudged(check_id: str, claim: str, found: Any, needs: str) -> Check:
    """Leave a claim open; `needs` says what would close it."""
    return Check(id=check_id, claim=claim, verdict="not known", found=shown(found), expected=needs)


# --- bytes --------------------------------------------------------------------------------------


def resembles_certificate(raw: bytes) -> bool:
    """Whether a file is a certificate, be it a damaged one."""
    return any(sign in raw for sign in _SIGNS)


def parse_document(raw: bytes) -> dict[str, Any]:
    """Read a JSON object more strictly than json does.

    Raises:
        ValueError: not UTF-8, not an object, a key twice, or a number that JSON has no word for or is no count.
    """
    try:
        document = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_unique, parse_int=_counted, parse_constant=_refused
        )
        canonical_json(document)  # a number beyond any float, or half a character
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(document, dict):
        raise ValueError("it is not an object")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key stands in it twice")
    return document


def _counted(digits: str) -> int:
    if len(digits) > 20:  # more than any count or seed has, and than every reader of JSON can hold
        raise ValueError(f"it holds a number of {len(digits)} digits")
    return int(digits)


def _refused(word: str) -> Any:
    raise ValueError(f"it holds {word}")


def read_written(name: str, raw: bytes) -> tuple[Check, dict[str, Any] | None]:
    """Parse a file that `write_json` made, and hold every byte of it against what that would make of it again.

    Returns:
        The check `NAME.bytes`, and the document where it can be parsed.
    """
    check_id, claim = f"{name}.bytes", "the file's bytes are those that apr writes for what it says"
    try:
        document = parse_document(raw)
    except ValueError as error:
        return Check(id=check_id, claim=claim, verdict="no", found=str(error), expected="a JSON object"), None
    again = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()
    return compared(check_id, claim, sha256_bytes(raw), sha256_bytes(again, b"\n")), document


# --- the document -------------------------------------------------------------------------------


def verify_certificate(raw: bytes) -> tuple[list[Check], dict[str, Any] | None]:
    """Judge a certificate from its bytes.

    Returns:
        The checks, and the document where it has a certificate's shape.
    """
    as_written, document = read_written("certificate", raw)
    if document is None:
        return [as_written], None
    unsealed = {key: value for key, value in document.items() if key != "digest"}
    digest = sha256_bytes(canonical_json(unsealed))
    claim = "the digest is of everything else in the document"
    known = compared("certificate.format", "this release knows the format", document.get("format"), FORMAT)
    checks = [as_written, known, compared("certificate.digest", claim, document.get("digest"), digest)]
    defect = _defect(document)
    claim = "every field of a certificate is there and of its kind"
    checks.append(compared("certificate.fields", claim, defect or "all", "all"))
    if defect:
        return checks, None
    return [*checks, *_judge_again(document)], document


def _defect(document: Mapping[str, Any]) -> str | None:
    """The first field that is missing or of another kind; None where all are well."""
    gates, missed = document.get("gates"), document.get("not_judged")
    if "grade" not in document or not isinstance(document["grade"], str | None):
        return "grade is neither a letter nor null"
    for name in ("step0", "inputs", "environment"):
        if not isinstance(document.get(name), dict):
            return f"{name} is not an object"
    if not isinstance(missed, list) or not all(isinstance(name, str) for name in missed):
        return "not_judged is not a list of gates"
    if not isinstance(gates, list) or not gates:
        return "gates is not a list of gates"
    return next((defect for gate in gates if (defect := _gate_defect(gate))), None)


def _gate_defect(gate: Any) -> str | None:
    if not isinstance(gate, dict) or set(gate) != {field.name for field in fields(GateResult)}:
        return "a gate has other fields than a gate has"
    kinds: dict[str, Any] = {"id": str, "claim": str, "cause": str, "facts": dict, "seconds": int | float}
    kinds |= dict.fromkeys(("figure", "limit"), str | int | float | None)
    wrong = next((name for name, kind in kinds.items() if not isinstance(gate[name], kind)), None)
    if wrong is None and gate["verdict"] not in _VERDICTS:
        wrong = "verdict"
    return None if wrong is None else f"{wrong} of the gate {gate['id']!r} is of another kind"


def _judge_again(document: dict[str, Any]) -> Iterator[Check]:
    gates = tuple(GateResult(**gate) for gate in document["gates"])
    again = Certificate(
        grade=document["grade"],
        gates=gates,
        step0=document["step0"],
        inputs=document["inputs"],
        required=frozenset(document["not_judged"]) | {gate.id for gate in gates},
        environment=document["environment"],
    )
    expected = again.to_dict()
    names = (", ".join(sorted(document)), ", ".join(sorted(expected)))
    yield compared("certificate.names", "it has exactly the fields of its format", *names)
    for key, claim in (
        ("evidence_digest", "the evidence digest is of the grade, the verdict, the gates and the inputs"),
        ("verdict", "the verdict follows from the gates"),
        ("not_judged", "no gate that was judged is listed as not judged"),
        ("comparison", "how the weights were judged follows from the grade"),
    ):
        yield compared(f"certificate.{key}", claim, document.get(key), expected[key])
    yield _grade_check(again)
    yield from _listing_checks(again)
    yield from (check for gate in gates if (check := _rejudged(gate)) is not None)
    yield from _repetition_checks(document, {gate.id: gate for gate in gates})


def _grade_check(again: Certificate) -> Check:
    """A and B cannot be told apart here: which reference a file carries, only the file says."""
    from_init = again.inputs.get("init") is not None
    earned = sorted({grade_of(recorded, again.gates) for recorded in ("A", "B")}) if from_init else [None]
    return Check(
        id="certificate.grade",
        claim="the grade is one that the reference's gates earn",
        verdict=verdict_of(again.grade in earned),
        found=again.grade,
        expected=" or ".join(map(str, earned)),
    )


def _listing_checks(again: Certificate) -> Iterator[Check]:
    ids = [gate.id for gate in again.gates]
    twice = sorted({gate_id for gate_id in ids if ids.count(gate_id) > 1})
    yield compared("certificate.gates", "no gate is listed twice", ", ".join(twice) or "none", "none")
    claim = "every gate that such a run needs is judged, or listed as not judged"
    missing = missing_gates(again.gates, again.not_judged, again.inputs, num_steps=0)
    yield compared("certificate.judged", claim, ", ".join(missing) or "none missing", "none missing")


def missing_gates(
    gates: Sequence[GateResult],
    not_judged: Sequence[str],
    inputs: Mapping[str, Any],
    *,
    num_steps: int,
    document_mask: bool = False,
) -> list[str]:
    """Gates that a certificate of such a run does not mention.

    Args:
        gates: those that were judged.
        not_judged: those that the certificate says were not.
        inputs: what went in.
        num_steps: of the plan; 0 where it is not at hand, since a run without steps needs the fewest.
        document_mask: of the plan, if it is at hand; one gate of it needs the others in any case.
    """
    known = {gate.id for gate in gates} | set(not_judged)
    compared_loss = any(gate.id == "reference.loss" and gate.verdict != "not known" for gate in gates)
    needed = required_gates(
        from_init=inputs.get("init") is not None,
        has_reference=compared_loss or "reference.blocks" in known,
        has_tokenizer=inputs.get("tokenizer") is not None,
        is_resumed="start" in inputs,
        has_subset="frozen" in inputs,
        has_adapters="adapters" in inputs,
        num_steps=num_steps,
        document_mask=document_mask or bool(known & OF_DOCUMENTS),
    )
    return sorted(needed - known)


def _rejudged(gate: GateResult) -> Check | None:
    """The gate's verdict from its figure and its limit; None where they do not tell."""
    holds = _DECIDED.get(gate.id) or _BOUNDED.get(gate.id)
    is_open = gate.verdict == "not known" or (gate.id in _BOUNDED and gate.verdict == "no")
    if holds is None or is_open:
        return None
    if is_number(gate.figure) and is_number(gate.limit):
        expected: str = verdict_of(holds(gate.figure, gate.limit))  # type: ignore[arg-type]
    else:  # such as the name of what is missing, or "nan": no yes can rest on it
        expected = "no"
    found = f"{gate.verdict}, with {gate.figure} against {gate.limit}"
    claim = "the gate's verdict follows from its figure and its limit"
    is_earned = verdict_of(gate.verdict == expected)
    return Check(id=f"gate.{gate.id}", claim=claim, verdict=is_earned, found=found, expected=expected)


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _repetition_checks(document: Mapping[str, Any], gates: Mapping[str, GateResult]) -> Iterator[Check]:
    for (section, key), (gate_id, where) in _REPEATED:
        gate = gates.get(gate_id)
        if gate is None or gate.verdict == "not known":
            continue
        said = gate.figure if where == "figure" else gate.facts.get(where)
        if where == "config":
            said = sha256_bytes(canonical_json(said))
        claim = f"{section}.{key} is what the gate {gate_id} says"
        yield compared(f"certificate.{section}.{key}", claim, document[section].get(key), said)


def not_rederived(document: Mapping[str, Any]) -> list[str]:
    """What no reading of a certificate can tell, whatever is at hand beside it."""
    ids = (gate["id"] for gate in document["gates"])
    return [
        f"the gates {', '.join(i for i in ids if i not in _DECIDED)}: judged by a program that had the weights",
        "every measured figure, such as losses and blocks: it needs the weights run again; on such a machine"
        " `apr pretrain` with the same inputs and options gives the same evidence digest,"
        f" {document['evidence_digest']}",
        "that nobody replaced all of it, with digests made anew: nothing is signed; keep the certificate's digest,"
        f" {document['digest']}, where nobody can change it",
    ]
