"""The model files of a run: its checkpoints, and the one that it started from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from apr.aprfile.metadata import ModelFacts, read_facts
from apr.aprfile.reader import open_apr
from apr.base.errors import AprError, FileMissing
from apr.base.files import canonical_json, sha256_bytes
from apr.stepzero.certificate import grade_of
from apr.stepzero.gate import GateResult
from apr.stepzero.verify import Check, compared, unjudged
from apr.workflows.verify_documents import Run, Say, agreement


def checkpoint_checks(run: Run, say: Say) -> Iterator[Check]:
    """Every checkpoint of the folder, listed or not, with all of its bytes."""
    inputs = run.certificate["inputs"] if run.certificate is not None else {}
    for path in sorted(run.folder.glob("ckpt/*.apr")):
        name = path.relative_to(run.folder).as_posix()
        check_id, said = name.removesuffix(".apr"), run.epochs.get(name, {})
        if name == run.unfinished:
            claim = "it is what the save that failed had written"
            yield unjudged(f"{check_id}.file", claim, "weights", "the metadata that was to follow")
            continue
        opened, facts = open_model(f"{check_id}.file", path, said.get("file_digest"), say)
        yield opened
        if facts is None:
            continue
        expected = {
            "init_digest": inputs.get("init"),
            "certificate_digest": (run.certificate or {}).get("evidence_digest"),
            "plan_digest": run.plan.digest,
            "step": said.get("step"),
            "tokens": said.get("tokens_seen"),
        }
        lineage = facts.lineage or {}
        rows = [(key, lineage.get(key), value) for key, value in expected.items()]
        rows += [(key, value, inputs.get(key)) for key, value in model_digests(facts).items()]
        claim = "it descends from this certificate, plan and start, and is as far as its metadata says"
        yield agreement(f"{check_id}.lineage", claim, rows)


def open_model(check_id: str, path: Path, expected: Any, say: Say) -> tuple[Check, ModelFacts | None]:
    """Open a model file, every byte checked, and compare its digest."""
    claim = "the file is whole, and has the digest that is recorded"
    try:
        with open_apr(path, "full", lambda done, total: say(f"checking {path.name}", done, total)) as file:
            return compared(check_id, claim, file.file_digest, expected), read_facts(file)
    except FileMissing:
        raise
    except AprError as error:
        return compared(check_id, claim, f"{error.id}, {error.message}", expected), None


def model_digests(facts: ModelFacts) -> dict[str, str | None]:
    """Digests of configuration and tokenizer, by role as a certificate lists them."""
    text = facts.tokenizer_json
    return {
        "config": sha256_bytes(canonical_json(facts.config.to_dict())),
        "tokenizer": None if text is None else sha256_bytes(text.encode()),
    }


def init_checks(document: Mapping[str, Any], path: Path | None, say: Say) -> Iterator[Check]:
    """Hold the checkpoint at hand against the one that a certificate says went in."""
    inputs = document["inputs"]
    claim = "the checkpoint at hand is the one that went in"
    if path is None:
        if inputs.get("init") is not None:
            yield unjudged("init.file", claim, "not at hand", "--init with the checkpoint")
        return
    opened, facts = open_model("init.file", path, inputs.get("init"), say)
    yield opened
    if facts is None:
        return
    digests = model_digests(facts)
    yield compared("init.config", "its configuration is the run's", digests["config"], inputs.get("config"))
    claim = "its tokenizer is the run's"
    if digests["tokenizer"] == inputs.get("tokenizer"):
        yield compared("init.tokenizer", claim, digests["tokenizer"], inputs.get("tokenizer"))
    else:  # the option --tokenizer of a run may name another, and no document says whether it did
        yield unjudged(
            "init.tokenizer", claim, digests["tokenizer"], "the one that --tokenizer of the run named"
        )
    reference = facts.reference or {}
    gates = [GateResult(**gate) for gate in document["gates"]]
    claim = "the grade is the one that its reference earns"
    yield compared("init.grade", claim, document["grade"], grade_of(reference.get("grade"), gates))
    if (loss := document["step0"].get("reference_loss")) is not None:
        yield compared("init.reference", "its reference is the certificate's", loss, reference.get("loss"))
