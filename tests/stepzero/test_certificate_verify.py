"""No byte of a certificate can be changed unseen, and a change with digests made anew contradicts itself."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apr.base.files import canonical_json, sha256_bytes, write_json
from apr.stepzero.certificate import Certificate
from apr.stepzero.gate import GateResult, not_known
from apr.stepzero.registry import required_gates
from apr.stepzero.verify import Check, not_rederived, resembles_certificate, verify_certificate

CONFIG = {"vocab_size": 320, "rope_theta": 1e4, "family": "llama"}
FIGURES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "reference.loss": (2e-6, 1e-3, {"reference_loss": 5.75, "oracle": "transformers 5"}),
    "reference.blocks": (1e-6, 1e-3, {}),
    "reference.training": (1e-6, 1e-3, {}),
    "tokens.ids": (319, 319, {"num_tokens": 9}),
    "tokens.tokenizer": ("ef", "ef", {"sha256": "ef" * 32}),
    "file.container": ("ok/ok/ok", "ok/ok/ok", {"file_digest": "ab" * 32}),
    "file.config": ("3 fields", "no difference", {"config": CONFIG}),
    "loss.step0": (5.5, "0.3 to 10.0", {"unit": "nats per token"}),
    "loss.random_init": (5.875, "5.768 +- 0.5", {"ln_vocab_size": 5.768}),
    "model.rows": (1e-7, 1e-5, {}),
    "update.size": (1e-7, 1e-3, {}),
    "update.slope": (0.01, 0.1, {}),
    "weights.coverage": (20, 20, {"tied": True}),
}


def gate(gate_id: str, **changes: Any) -> GateResult:
    figure, limit, facts = FIGURES.get(gate_id, (0, 0, {}))
    given = {"verdict": "yes", "figure": figure, "limit": limit, "facts": facts, "seconds": 0.125, **changes}
    return GateResult(id=gate_id, claim="it holds \u2014 d\u00e9j\u00e0 vu", **given)


NEEDED = required_gates(from_init=True, has_reference=True, has_tokenizer=True, num_steps=9)
GATES = tuple(gate(gate_id) for gate_id in sorted(NEEDED))
CERTIFICATE = Certificate(
    grade="A",
    gates=GATES,
    step0={"val_loss": 5.5, "random_init_loss": 5.875, "reference_loss": 5.75, "reference_delta": 2e-6},
    inputs={
        "init": "ab" * 32,
        "config": sha256_bytes(canonical_json(CONFIG)),
        "tokenizer": "ef" * 32,
        "train": "01" * 32,
        "validation": "23" * 32,
        "plan": "45" * 32,
    },
    required=NEEDED,
    environment={"versions": {"torch": "2.13.0"}, "device": "cpu", "threads": 1},
)


def raw_of(value: dict[str, Any]) -> bytes:
    """What `write_json` writes, without the file; a test holds the two equal."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


@pytest.fixture(scope="module")
def raw() -> bytes:
    return raw_of(CERTIFICATE.to_dict())


def refused(raw: bytes) -> list[str]:
    """The ids of the checks that say no."""
    return [check.id for check in verify_certificate(raw)[0] if check.verdict == "no"]


def resealed(document: dict[str, Any]) -> dict[str, Any]:
    """The document with digests made anew, as one would who wants it believed."""
    parts = {key: document.get(key) for key in ("grade", "verdict", "not_judged", "step0", "inputs")}
    gates = document.get("gates")
    if isinstance(gates, list):
        gates = [{k: v for k, v in g.items() if k != "seconds"} if isinstance(g, dict) else g for g in gates]
    evidence = sha256_bytes(canonical_json({**parts, "gates": gates}))
    unsealed = {
        key: value for key, value in {**document, "evidence_digest": evidence}.items() if key != "digest"
    }
    return {**unsealed, "digest": sha256_bytes(canonical_json(unsealed))}


def test_it_is_held_against_what_is_written(raw: bytes, tmp_path: Path) -> None:
    write_json(tmp_path / "certificate.json", CERTIFICATE.to_dict())
    assert (tmp_path / "certificate.json").read_bytes() == raw


def test_a_whole_certificate_holds(raw: bytes) -> None:
    checks, document = verify_certificate(raw)
    assert {check.verdict for check in checks} == {"yes"}
    assert len({check.id for check in checks}) == len(checks) > 30
    assert document == CERTIFICATE.to_dict()
    told = " ".join(not_rederived(document))
    assert CERTIFICATE.to_dict()["digest"] in told
    assert CERTIFICATE.evidence_digest in told
    assert "update.slope" in told


def without(*ids: str) -> tuple[GateResult, ...]:
    return tuple(item for item in GATES if item.id not in ids)


SCRATCH = required_gates(from_init=False, has_reference=False, has_tokenizer=True, num_steps=9)
ABSENT = not_known("reference.loss", "the probe's loss equals the reference", "the file records none")
NO_PROBE: dict[str, Any] = {"reference_loss": None, "reference_delta": None}
OTHERS = {
    "grade B": replace(CERTIFICATE, grade="B"),
    "grade C": replace(
        CERTIFICATE,
        grade="C",
        gates=(*without("reference.loss", "reference.blocks", "reference.training"), ABSENT),
        step0={**CERTIFICATE.step0, **NO_PROBE},
        required=NEEDED - {"reference.blocks", "reference.training"},
    ),
    "from scratch": replace(
        CERTIFICATE,
        grade=None,
        gates=tuple(item for item in GATES if item.id in SCRATCH),
        step0={**CERTIFICATE.step0, **NO_PROBE},
        inputs={**CERTIFICATE.inputs, "init": None},
        required=SCRATCH,
    ),
    "refused": replace(
        CERTIFICATE,
        grade="C",
        gates=(gate("file.container"), gate("file.config"), gate("tokens.split", verdict="no", figure=3)),
        step0=dict.fromkeys(CERTIFICATE.step0),
    ),
    "refused for more than its figure": replace(
        CERTIFICATE, gates=(*without("weights.untouched"), gate("weights.untouched", verdict="no"))
    ),
    "a loss that is none": replace(
        CERTIFICATE,
        grade="C",
        gates=(*without("reference.loss"), gate("reference.loss", verdict="no", figure=float("nan"))),
        step0={**CERTIFICATE.step0, "reference_loss": None, "reference_delta": "nan"},
    ),
}


@pytest.mark.parametrize("name", [name for name in OTHERS if name != "a loss that is none"])
def test_other_kinds_hold_too(name: str) -> None:
    assert refused(raw_of(OTHERS[name].to_dict())) == []


def test_a_figure_that_is_not_finite_can_be_verified() -> None:
    # The one thing wrong with it is the reference's loss, which this test's certificate leaves out.
    assert refused(raw_of(OTHERS["a loss that is none"].to_dict())) == ["certificate.step0.reference_loss"]


# --- edits by someone who leaves the digests alone ------------------------------------------------


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a document, leaf or not."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def edited(
    document: dict[str, Any], path: tuple[Any, ...], edit: Callable[[Any, Any], None]
) -> dict[str, Any]:
    """A copy with an edit(parent, key) made at a place."""
    copy = json.loads(json.dumps(document))
    parent = copy
    for key in path[:-1]:
        parent = parent[key]
    edit(parent, path[-1])
    return copy


def otherwise(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return value[:-1] + ("0" if value[-1:] != "0" else "1")
    return {"x": 1} if isinstance(value, list) else [value]


def exchange(parent: Any, key: Any) -> None:
    parent[key] = otherwise(parent[key])


def remove(parent: Any, key: Any) -> None:
    del parent[key]


def nudge(parent: Any, key: Any) -> None:
    """A number in its last digit, anything else into null."""
    value = parent[key]
    is_float = isinstance(value, float)
    parent[key] = value * (1 + 2**-52) if is_float else float(value) if type(value) is int else None


PLACES = list(places(CERTIFICATE.to_dict()))


@pytest.mark.parametrize("edit", [exchange, remove, nudge])
def test_every_place_of_the_document_is_guarded(edit: Callable[[Any, Any], None], raw: bytes) -> None:
    document = json.loads(raw)
    assert len(PLACES) > 250
    for path in PLACES:
        changed = raw_of(edited(document, path, edit))
        if changed == raw:
            assert edit is nudge  # null was null
            continue
        assert refused(changed), path


def test_random_bytes_are_found(raw: bytes) -> None:
    chance = random.Random(7)
    for _ in range(200):
        at = chance.randrange(len(raw))
        byte = chance.choice([b for b in range(256) if b != raw[at]])
        changed = raw[:at] + bytes([byte]) + raw[at + 1 :]
        assert resembles_certificate(changed)
        assert refused(changed), (at, byte)


@pytest.mark.parametrize("size", [1, 2, 40])
def test_bytes_left_out_or_put_in_are_found(raw: bytes, size: int) -> None:
    chance = random.Random(size)
    for _ in range(40):
        at = chance.randrange(len(raw) - size)
        assert refused(raw[:at] + raw[at + size :]), at
        assert refused(raw[:at] + b" " * size + raw[at:]), at
    assert refused(raw[:-size])
    assert refused(raw + b"\n" * size)


def test_another_spelling_of_the_same_document_is_found(raw: bytes) -> None:
    document, text = json.loads(raw), raw.decode()
    reordered = dict(sorted(document.items(), reverse=True))
    spellings = [
        json.dumps(document, sort_keys=True),
        json.dumps(document, indent=2, sort_keys=True) + "\n",  # escapes what is not ASCII
        json.dumps(reordered, indent=2, ensure_ascii=False) + "\n",
        text.replace("\n", "\r\n"),
        text.replace('"device"', '"\\u0064evice"'),
        text.replace("0.125", "0.1250", 1),
        text.replace("0.125", "1.25e-1", 1),
        "\ufeff" + text,
        text.replace('"grade": "A"', '"grade": "B",\n  "grade": "A"'),
    ]
    for spelling in spellings:
        assert spelling != text
        assert refused(spelling.encode()) == ["certificate.bytes"], spelling[:60]
    assert refused(text.encode("utf-16")) == ["certificate.bytes"]


@pytest.mark.parametrize(
    "value", ["NaN", "-Infinity", "1e999", "9" * 5000, "1" + "0" * 30, '"\\ud800"', "[" * 100_000, "tru", ""]
)
def test_what_json_readers_disagree_on_is_found(raw: bytes, value: str) -> None:
    assert refused(raw.replace(b'"threads": 1', b'"threads": ' + value.encode())) == ["certificate.bytes"]


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b'"evidence_digest"', b"\xff\xfe", b"{}"])
def test_what_is_no_certificate_holds_nothing(content: bytes) -> None:
    assert refused(content)


# --- edits by someone who makes the digests anew ---------------------------------------------------


def put(section: str, key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document[section].__setitem__(key, value)


def of_gate(gate_id: str, key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: next(g for g in document["gates"] if g["id"] == gate_id).__setitem__(key, value)


def leave_out(gate_id: str) -> Callable[[dict[str, Any]], None]:
    return lambda document: document.update(gates=[g for g in document["gates"] if g["id"] != gate_id])


def set_to(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document.update(values)


FORGERIES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "format": (set_to(format="apr-certificate-0"), "certificate.format"),
    "another field": (set_to(note="fine"), "certificate.names"),
    "verdict": (set_to(verdict="no"), "certificate.verdict"),
    "a no that counts as yes": (of_gate("data.order", "verdict", "no"), "certificate.verdict"),
    "grade C": (set_to(grade="C", comparison="band"), "certificate.grade"),
    "no grade": (set_to(grade=None, comparison=None), "certificate.grade"),
    "grade from nothing": (of_gate("reference.blocks", "verdict", "not known"), "certificate.grade"),
    "comparison": (set_to(comparison="band"), "certificate.comparison"),
    "not judged": (set_to(not_judged=["data.order"]), "certificate.not_judged"),
    "not judged at all": (set_to(not_judged=["something"]), "certificate.verdict"),
    "a gate left out": (leave_out("weights.memory"), "certificate.judged"),
    "a reference left out": (leave_out("reference.blocks"), "certificate.judged"),
    "a gate twice": (lambda d: d["gates"].append(d["gates"][3]), "certificate.gates"),
    "loss above its limit": (of_gate("reference.loss", "figure", 2e-3), "gate.reference.loss"),
    "loss that is no number": (of_gate("reference.loss", "figure", "nan"), "gate.reference.loss"),
    "no limit": (of_gate("reference.loss", "limit", None), "gate.reference.loss"),
    "blocks": (of_gate("reference.blocks", "figure", 0.5), "gate.reference.blocks"),
    "an id without a row": (of_gate("tokens.ids", "figure", 320), "gate.tokens.ids"),
    "shared windows": (of_gate("tokens.split", "figure", 1), "gate.tokens.split"),
    "a tensor short": (of_gate("weights.coverage", "figure", 19), "gate.weights.coverage"),
    "memory": (of_gate("weights.memory", "figure", -1), "gate.weights.memory"),
    "validation loss": (put("step0", "val_loss", 5.4), "certificate.step0.val_loss"),
    "random loss": (put("step0", "random_init_loss", 9.0), "certificate.step0.random_init_loss"),
    "reference loss": (put("step0", "reference_loss", 5.0), "certificate.step0.reference_loss"),
    "delta": (put("step0", "reference_delta", 0.0), "certificate.step0.reference_delta"),
    "init": (put("inputs", "init", "cd" * 32), "certificate.inputs.init"),
    "no init": (put("inputs", "init", None), "certificate.grade"),
    "tokenizer": (put("inputs", "tokenizer", "cd" * 32), "certificate.inputs.tokenizer"),
    "config": (
        of_gate("file.config", "facts", {"config": {**CONFIG, "rope_theta": 1e6}}),
        "certificate.inputs.config",
    ),
    "a verdict that is none": (of_gate("loss.step0", "verdict", "maybe"), "certificate.fields"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_contradicts_itself(name: str, raw: bytes) -> None:
    forge, check_id = FORGERIES[name]
    document = json.loads(raw)
    forge(document)
    found = refused(raw_of(resealed(document)))
    assert check_id in found
    assert not {"certificate.bytes", "certificate.digest"} & set(found)


def test_a_no_that_its_figure_does_not_give_is_found() -> None:
    spoilt = replace(CERTIFICATE, gates=(*without("tokens.split"), gate("tokens.split", verdict="no")))
    assert refused(raw_of(spoilt.to_dict())) == ["gate.tokens.split"]


def test_only_the_evidence_digest_is_wrong(raw: bytes) -> None:
    document = {**json.loads(raw), "evidence_digest": "0" * 64}
    del document["digest"]
    document["digest"] = sha256_bytes(canonical_json(document))
    assert refused(raw_of(document)) == ["certificate.evidence_digest"]


def test_only_the_digest_is_wrong(raw: bytes) -> None:
    document = json.loads(raw)
    document["environment"]["device"] = "cuda:0"  # no evidence, and in the digest
    assert refused(raw_of(document)) == ["certificate.digest"]


@pytest.mark.parametrize("value", [None, True, 7, -1.5, "", "x", [], [1], {}, {"x": None}, 10**19])
def test_no_kind_of_value_anywhere_is_a_bug(value: Any, raw: bytes) -> None:
    def replaced(parent: Any, key: Any) -> None:
        parent[key] = value

    for path in PLACES:
        document = resealed(edited(json.loads(raw), path, replaced))
        checks, _ = verify_certificate(
            json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False).encode()
        )
        assert all(isinstance(check, Check) for check in checks)
        for check in checks:
            json.dumps(check.to_dict(), allow_nan=False)


def test_torch_is_not_needed() -> None:
    code = "import sys, apr.stepzero.verify, apr.workflows.verifying; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
