"""`apr verify`: re-derive offline what a run directory or a certificate claims, and say what cannot be.

Everything is read again from its bytes and held against something that it did not itself say: digests against what
they are of, metrics against the plan, checkpoints against certificate, plan and metrics, the record against them all.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from apr.aprfile.metadata import ModelFacts, read_facts
from apr.aprfile.reader import open_apr
from apr.base.errors import AprError, FileMissing
from apr.base.files import canonical_json, sha256_bytes, sha256_file
from apr.data.shards import TokenDataset, open_dataset
from apr.data.windows import num_windows, window_hashes
from apr.stepzero.certificate import grade_of
from apr.stepzero.gate import GateResult
from apr.stepzero.verify import (
    Check,
    compared,
    is_number,
    missing_gates,
    not_rederived,
    parse_document,
    read_written,
    resembles_certificate,
    shown,
    unjudged,
    verify_certificate,
)
from apr.stepzero.verify_errors import NothingToVerify, VerificationFailed
from apr.train.errors import LossDiverged, NotFinite
from apr.train.plan import FIRST_PATIENT_EPOCH, PATIENCE_EPOCHS, RunPlan
from apr.train.synthetic import WORD, scripted_loss

Say = Callable[[str, int, int | None], None]

_MAX_BYTES = 1 << 26  # of a certificate, which has some tens of thousands
_SAME = 1e-12  # relative: the last digits of a cosine or a sum differ between machines
_ENDED = ("TARGET_MET", "BUDGET_DONE", "EARLY_STOP")  # words of a run that nothing stopped
_DOCUMENTS = ("plan.json", "record.json", "certificate.json")
_PARTS = re.compile(
    r"(plan|record|certificate|best)\.json|metrics\.jsonl|log\.txt|ckpt/epoch-\d{3,}\.(apr|metadata\.json)"
    r"|state/(optimizer\.safetensors|progress\.json)"
)
_NUMBER, _NUMBER_OR_NULL = int | float, int | float | None
_RECORD: dict[str, Any] = {"outcome": str, "steps": int, "tokens": int, "checkpoints": list}
_RECORD |= {"certificate": dict | None, "error": dict | None}
_RECORD |= {"final_val_loss": _NUMBER_OR_NULL, "tokens_per_sec": _NUMBER_OR_NULL}
_LINE: dict[str, Any] = {"step": int, "tokens_seen": int}
_LINE |= dict.fromkeys(("train_loss", "grad_norm", "lr", "tokens_per_sec"), _NUMBER)
_METADATA: dict[str, Any] = {"epoch": int, "step": int, "tokens_seen": int}
_METADATA |= {"optimizer_state_sha": str, "file_digest": str}
_METADATA |= dict.fromkeys(
    ("train_loss", "val_loss", "train_ppl", "val_ppl", "grad_norm_max"), _NUMBER_OR_NULL
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What a run directory says, parsed."""

    folder: Path
    certificate: dict[str, Any] | None
    plan: RunPlan
    record: dict[str, Any]
    lines: tuple[dict[str, Any], ...]  # of metrics.jsonl
    epochs: dict[str, dict[str, Any]]  # metadata by the path of its checkpoint, in the record's order

    @property
    def tokens_at(self) -> list[int]:
        """Tokens seen after each step, from step 0 on."""
        return [0, *(line["tokens_seen"] for line in self.lines)]

    @property
    def last(self) -> dict[str, Any] | None:
        """The metadata of the last checkpoint."""
        return next(reversed(self.epochs.values()), None)


def verify(
    path: Path, *, init: Path | None = None, dataset: Path | None = None, on_progress: Say | None = None
) -> dict[str, Any]:
    """Verify a run directory or a certificate.

    Args:
        path: either.
        init: the checkpoint that the run started from, where it is at hand.
        dataset: the shards that it was trained on, where they are at hand.
        on_progress: told what is being done.

    Returns:
        {verdict, checks: [{id, claim, verdict, found, expected}], not_rederived, digest}.

    Raises:
        FileMissing, NothingToVerify: there is nothing that could be verified, or nothing to verify it with.
    """
    say = on_progress or (lambda what, done, total: None)
    checks, document, run = _verify_folder(path, say) if path.is_dir() else _verify_file(path)
    plan = run.plan if run is not None else None
    if document is not None:
        checks += _init_checks(document, init, say)
        checks += _dataset_checks(document, dataset, plan, run.tokens_at if run is not None else [0], say)
    return {
        "verdict": "no" if any(check.verdict == "no" for check in checks) else "yes",
        "checks": [check.to_dict() for check in checks],
        "not_rederived": _open_claims(document, run),
        "digest": document["digest"] if document is not None else None,
    }


def _open_claims(document: Mapping[str, Any] | None, run: _Run | None) -> list[str]:
    told = not_rederived(document) if document is not None else []
    if run is not None:
        told += [
            "losses and gradient norms of steps and epochs: they need the training run again",
            "the optimizer's state at earlier checkpoints, which the next one overwrote; and the generator's state",
            "times, and where the plan's values came from: no digest covers them",
        ]
    return told or ["a certificate: there is none to derive anything from"]


def _verify_file(path: Path) -> tuple[list[Check], dict[str, Any] | None, None]:
    if not path.is_file():
        raise FileMissing(path=str(path), kind="run directory or certificate", made_by="apr pretrain")
    raw = path.read_bytes() if path.stat().st_size <= _MAX_BYTES else b""
    if not resembles_certificate(raw):
        raise NothingToVerify(path=str(path), reason="the file has no part of a certificate")
    return *verify_certificate(raw), None


# --- reading a run directory --------------------------------------------------------------------


def _verify_folder(folder: Path, say: Say) -> tuple[list[Check], dict[str, Any] | None, _Run | None]:
    if not any((folder / name).is_file() for name in _DOCUMENTS):
        raise NothingToVerify(path=str(folder), reason=f"the folder holds none of {', '.join(_DOCUMENTS)}")
    checks, plan_document = _read(folder, "plan.json")
    more, record = _read(folder, "record.json")
    checks += more
    document = None
    if (folder / "certificate.json").is_file():
        more, document = verify_certificate((folder / "certificate.json").read_bytes())
        checks += more
    if plan_document is None or record is None:
        return checks, document, None
    plan = _plan_of(plan_document)
    again = plan.to_dict() if plan is not None else "a plan of apr pretrain"
    said = {key: value for key, value in plan_document.items() if key != "kind"}
    checks.append(compared("plan.values", "the plan has its values and their digest", said, again))
    if plan is None:
        return checks, document, None
    if plan.synthetic or WORD in (plan_document.get("kind"), record.get("kind")):
        return [*checks, *_synthetic_checks(folder, plan, plan_document, record)], document, None
    run = _assemble(folder, document, plan, record, checks)
    if run is not None:
        for judge in (
            _link_checks,
            _metrics_checks,
            _outcome_checks,
            _epoch_checks,
            _best_checks,
            _state_checks,
        ):
            checks += judge(run)
        checks += _checkpoint_checks(run, say)
    return [*checks, *_other_files(folder)], document, run


def _read(folder: Path, name: str) -> tuple[list[Check], dict[str, Any] | None]:
    """A document that must be there, in the bytes that apr writes."""
    path, check_name = folder / name, name.removesuffix(".json")
    if not path.is_file():
        claim = "the file is there"
        return [compared(f"{check_name}.bytes", claim, "missing", "a file")], None
    check, document = read_written(check_name, path.read_bytes())
    return [check], document


def _fields(name: str, document: Mapping[str, Any], kinds: Mapping[str, Any]) -> Check:
    wrong = (key for key, kind in kinds.items() if key not in document or not isinstance(document[key], kind))
    return compared(f"{name}.fields", "every field is there and of its kind", next(wrong, "all"), "all")


def _plan_of(document: Mapping[str, Any]) -> RunPlan | None:
    """The plan as a value; None where a value is missing, unknown or of another kind."""
    kinds: dict[str, Any] = {"int": int, "float": int | float, "str": str, "bool": bool}
    kinds["tuple[float, float]"] = list
    try:
        values = {name: entry["value"] for name, entry in document["values"].items()}
        sources = {name: entry["source"] for name, entry in document["values"].items()}
        plan = RunPlan(**{**values, "betas": tuple(values["betas"])}, sources=sources)
    except (KeyError, TypeError, AttributeError):
        return None
    typed = all(isinstance(values[f.name], kinds[str(f.type)]) for f in fields(plan) if f.name != "sources")
    sizes = (values[name] for name in ("batch_size", "seq_length", "grad_accum", "steps_per_epoch"))
    return plan if typed and min(*sizes, values["num_steps"] + 1) >= 1 else None


def _assemble(
    folder: Path,
    certificate: dict[str, Any] | None,
    plan: RunPlan,
    record: dict[str, Any],
    checks: list[Check],
) -> _Run | None:
    """Read the other documents; None where one cannot be used, which `checks` then says."""
    before = len(checks)
    checks.append(_fields("record", record, _RECORD))
    lines_check, lines = _read_lines(folder / "metrics.jsonl", _LINE)
    checks.append(lines_check)
    if any(check.verdict == "no" for check in checks[before:]):
        return None
    epochs: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(map(str, record["checkpoints"])):
        about = f"{name.removesuffix('.apr')}.metadata"
        found, metadata = _read(folder, f"{about}.json")
        checks += [*found, *([_fields(about, metadata, _METADATA)] if metadata is not None else [])]
        if metadata is None or checks[-1].verdict == "no":
            return None
        epochs[name] = metadata
    return _Run(folder=folder, certificate=certificate, plan=plan, record=record, lines=lines, epochs=epochs)


def _read_lines(path: Path, kinds: Mapping[str, Any]) -> tuple[Check, tuple[dict[str, Any], ...]]:
    claim = "every line is a step as apr writes it, and every number is finite"
    raw = path.read_bytes() if path.is_file() else b""
    lines, wrong = [], "none" if raw.endswith(b"\n") or not raw else "the last line, which is cut off"
    for number, row in enumerate(raw.split(b"\n")[:-1], start=1):
        line = _parse_line(row, kinds)
        if line is None:
            wrong = f"line {number}"
            break
        lines.append(line)
    return compared("metrics.lines", claim, wrong, "none"), tuple(lines)


def _parse_line(row: bytes, kinds: Mapping[str, Any]) -> dict[str, Any] | None:
    """A line of metrics; None where it is not one that apr writes."""
    try:
        line = parse_document(row)
    except ValueError:
        return None
    typed = all(key in line and isinstance(line[key], kind) for key, kind in kinds.items())
    is_written = json.dumps(line).encode() == row
    return line if typed and is_written and line.get("tokens_per_sec", 1) > 0 else None


def _agree(check_id: str, claim: str, rows: Iterable[tuple[str, Any, Any]]) -> Check:
    """Claim that every row (label, found, expected) is of two equals; the first that is not is shown."""
    count = 0
    for label, found, expected in rows:
        if is_number(found) and is_number(expected) and float in (type(found), type(expected)):
            same = math.isclose(found, expected, rel_tol=_SAME)
        else:
            same = type(found) is type(expected) and found == expected
        if not same:
            told = ["nothing" if value is None else f"{value}" for value in (found, expected)]
            return compared(check_id, claim, f"{told[0]} as {label}", told[1])
        count += 1
    return compared(check_id, claim, f"{count} equal", f"{count} equal")


# --- what its documents say of each other -------------------------------------------------------


def _link_checks(run: _Run) -> Iterator[Check]:
    said, document = run.record["certificate"], run.certificate
    claim = "the record repeats the certificate of this folder"
    if document is None or said is None:
        there = ["none" if value is None else "a certificate" for value in (said, document)]
        yield compared("record.certificate", claim, *there)
    else:
        same = ((key, shown(said.get(key)), shown(document.get(key))) for key in sorted({*said, "digest"}))
        yield _agree("record.certificate", claim, same)
        claim = "the certificate is of this plan"
        yield compared("certificate.plan", claim, document["inputs"].get("plan"), run.plan.digest)
        gates = [GateResult(**gate) for gate in document["gates"]]
        missing = missing_gates(
            gates, document["not_judged"], document["inputs"], num_steps=run.plan.num_steps
        )
        claim = "every gate that this plan needs is judged, or listed as not judged"
        yield compared("certificate.needed", claim, ", ".join(missing) or "none missing", "none missing")
    if document is None or document["verdict"] == "no":
        trained = f"{len(run.lines)} steps, {len(run.record['checkpoints'])} checkpoints"
        claim = "without a certificate that says yes nothing was trained"
        yield compared("run.permitted", claim, trained, "0 steps, 0 checkpoints")


def _metrics_checks(run: _Run) -> Iterator[Check]:
    plan, lines, tokens = run.plan, run.lines, run.tokens_at
    odd = next((i for i, line in enumerate(lines, start=1) if line["step"] != i), None)
    found = len(lines) if odd is None else f"another step in line {odd}"
    claim = "metrics has one line a step, without gap or repetition"
    yield compared("metrics.steps", claim, found, run.record["steps"])
    claim = "the learning rate of every step is the plan's"
    rates = ((f"lr of step {i + 1}", line["lr"], plan.learning_rate(i)) for i, line in enumerate(lines))
    yield _agree("metrics.lr", claim, rates)
    most = plan.windows_per_step * plan.seq_length
    odd = next((i for i in range(1, len(tokens)) if not 0 < tokens[i] - tokens[i - 1] <= most), None)
    claim = f"every step sees at least one token and at most {most}"
    yield compared("metrics.tokens", claim, "all" if odd is None else f"not step {odd}", "all")
    yield compared(
        "record.tokens", "the record counts the tokens of metrics", run.record["tokens"], tokens[-1]
    )
    spent = sum((tokens[i + 1] - tokens[i]) / line["tokens_per_sec"] for i, line in enumerate(lines))
    speed = (("tokens_per_sec", run.record["tokens_per_sec"], tokens[-1] / spent if spent > 0 else None),)
    yield _agree("record.tokens_per_sec", "the record's speed is the mean of metrics", speed)


def _outcome_checks(run: _Run) -> Iterator[Check]:
    plan, record = run.plan, run.record
    claim = "the word for the end follows from the steps, the losses and the error"
    yield compared("record.outcome", claim, record["outcome"], _outcome(run))
    validated = [epoch["val_loss"] for epoch in run.epochs.values() if epoch["val_loss"] is not None]
    final = validated[-1] if validated and record["steps"] else None
    claim = "the record's validation loss is the last that was kept"
    yield compared("record.final_val_loss", claim, record["final_val_loss"], final)
    if record["outcome"] in _ENDED and record["steps"] == plan.num_steps:
        high = plan.num_windows * plan.seq_length
        # Only the last window of the corpus may be short, and a run that repeats the corpus meets it again.
        low = 0 if plan.allow_shard_cycle else max(0, high - plan.seq_length + 1)
        claim = "the tokens that were planned were seen, but for those that a short last window lacks"
        limits = f"{low} to {high}"
        yield compared(
            "record.planned", claim, limits if low <= record["tokens"] <= high else record["tokens"], limits
        )


def _outcome(run: _Run) -> str:
    """The word that the run must have ended with."""
    plan, steps, error = run.plan, run.record["steps"], run.record["error"]
    if error is not None:
        return "DIVERGED" if error.get("id") in (NotFinite.id, LossDiverged.id) else "REFUSED"
    losses = [epoch["val_loss"] for epoch in run.epochs.values()]
    if None in losses or run.last is None or run.last["step"] != steps:
        return "INTERRUPTED"
    if steps == plan.num_steps:
        return "TARGET_MET" if steps and losses[-1] <= plan.target_val_loss else "BUDGET_DONE"
    return "EARLY_STOP" if _is_out_of_patience(losses) else "INTERRUPTED"


def _is_out_of_patience(losses: list[float]) -> bool:
    """Whether the last epochs brought no gain (INV-TRAIN-004)."""
    best, without_gain = math.inf, 0
    for loss in losses:
        without_gain = 0 if loss < best else without_gain + 1
        best = min(best, loss)
    return len(losses) >= FIRST_PATIENT_EPOCH and without_gain >= PATIENCE_EPOCHS


def _epoch_checks(run: _Run) -> Iterator[Check]:
    """Which checkpoints there are, and what their metadata says of the steps."""
    steps, cadence, listed = (
        len(run.lines),
        run.plan.steps_per_epoch,
        list(map(str, run.record["checkpoints"])),
    )
    begun = math.ceil(steps / cadence)
    numbers = list(range(1, begun + 1)) if steps or run.record["outcome"] != "BUDGET_DONE" else [0]
    if run.record["outcome"] not in _ENDED and len(listed) < len(numbers):
        numbers = numbers[:-1]  # the last epoch was not closed
    expected = [f"ckpt/epoch-{number:03d}.apr" for number in numbers]
    claim = "the record lists a checkpoint for every epoch"
    yield compared("record.checkpoints", claim, ", ".join(listed), ", ".join(expected))
    there = sorted(path.relative_to(run.folder).as_posix() for path in run.folder.glob("ckpt/*.apr"))
    claim = "the checkpoints of the folder are those of the record"
    yield compared("ckpt.files", claim, ", ".join(there), ", ".join(sorted(listed)))
    start = 0
    for number, (name, said) in zip(numbers, run.epochs.items(), strict=False):
        stop = min(number * cadence, steps)
        claim = "the metadata is what metrics and the epoch's losses give"
        rows = _metadata_rows(run, said, number, start, stop)
        yield _agree(f"{name.removesuffix('.apr')}.metadata", claim, rows)
        start = stop


def _metadata_rows(
    run: _Run, said: Mapping[str, Any], number: int, start: int, stop: int
) -> Iterator[tuple[str, Any, Any]]:
    lines, tokens = run.lines[start:stop], run.tokens_at[start : stop + 1]
    yield "epoch", said["epoch"], number
    yield "step", said["step"], stop
    yield "tokens_seen", said["tokens_seen"], tokens[-1]
    counts = [after - before for before, after in pairwise(tokens)]
    total = sum(line["train_loss"] * count for line, count in zip(lines, counts, strict=False))
    yield "train_loss", said["train_loss"], total / max(1, sum(counts)) if lines else None
    yield "grad_norm_max", said["grad_norm_max"], max((line["grad_norm"] for line in lines), default=None)
    for part in ("train", "val"):
        loss = said[f"{part}_loss"]
        yield f"{part}_ppl", said[f"{part}_ppl"], math.exp(loss) if loss is not None and loss < 700 else None
    if number == 0 and run.certificate is not None:
        yield "val_loss", said["val_loss"], run.certificate["step0"].get("val_loss")


def _best_checks(run: _Run) -> Iterator[Check]:
    validated = {name: said for name, said in run.epochs.items() if said["val_loss"] is not None}
    claim = "best.json points to the checkpoint with the lowest validation loss"
    if not validated:
        there = "a file" if (run.folder / "best.json").exists() else "none"
        yield compared("best.lowest", claim, there, "none")
        return
    checks, best = _read(run.folder, "best.json")
    yield from checks
    lowest = min(validated, key=lambda name: validated[name]["val_loss"])
    expected = {"checkpoint": lowest, **{key: validated[lowest][key] for key in ("epoch", "val_loss")}}
    yield _agree("best.lowest", claim, ((key, (best or {}).get(key), expected[key]) for key in expected))


def _state_checks(run: _Run) -> Iterator[Check]:
    """INV-TRAIN-003, and that the state is the last checkpoint's."""
    if run.last is None:
        return
    checks, progress = _read(run.folder, "state/progress.json")
    yield from checks
    path = run.folder / "state" / "optimizer.safetensors"
    sha = sha256_file(path) if path.is_file() else "missing"
    expected = run.last["optimizer_state_sha"]
    yield compared(
        "state.optimizer", "the optimizer's state has the digest of the last checkpoint", sha, expected
    )
    rows = {key: run.last[key] for key in ("step", "epoch", "tokens_seen", "optimizer_state_sha")}
    rows["cursor"] = run.last["step"] * run.plan.windows_per_step
    claim = "the progress is the last checkpoint's"
    yield _agree("state.progress", claim, ((key, (progress or {}).get(key), rows[key]) for key in rows))


def _checkpoint_checks(run: _Run, say: Say) -> Iterator[Check]:
    """Every checkpoint of the folder, listed or not, with all of its bytes."""
    inputs = run.certificate["inputs"] if run.certificate is not None else {}
    for path in sorted(run.folder.glob("ckpt/*.apr")):
        name = path.relative_to(run.folder).as_posix()
        check_id, said = name.removesuffix(".apr"), run.epochs.get(name, {})
        opened, facts = _open_model(f"{check_id}.file", path, said.get("file_digest"), say)
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
        rows += [(key, value, inputs.get(key)) for key, value in _model_digests(facts).items()]
        claim = "it descends from this certificate, plan and start, and is as far as its metadata says"
        yield _agree(f"{check_id}.lineage", claim, rows)


def _open_model(check_id: str, path: Path, expected: Any, say: Say) -> tuple[Check, ModelFacts | None]:
    """Open a model file, every byte checked, and compare its digest."""
    claim = "the file is whole, and has the digest that is recorded"
    try:
        with open_apr(path, "full", lambda done, total: say(f"checking {path.name}", done, total)) as file:
            return compared(check_id, claim, file.file_digest, expected), read_facts(file)
    except FileMissing:
        raise
    except AprError as error:
        return compared(check_id, claim, f"{error.id}, {error.message}", expected), None


def _model_digests(facts: ModelFacts) -> dict[str, str | None]:
    text = facts.tokenizer_json
    return {
        "config": sha256_bytes(canonical_json(facts.config.to_dict())),
        "tokenizer": None if text is None else sha256_bytes(text.encode()),
    }


def _other_files(folder: Path) -> Iterator[Check]:
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    others = [name for name in found if not _PARTS.fullmatch(name)]
    if others:
        yield unjudged("files.others", "every file is a part of a run", ", ".join(others), "no other file")


def _synthetic_checks(
    folder: Path, plan: RunPlan, document: Mapping[str, Any], record: Mapping[str, Any]
) -> Iterator[Check]:
    """A scripted run: it says so everywhere, and has nothing that could be taken for a run's."""
    kinds = [document.get("kind"), record.get("kind"), plan.synthetic]
    yield compared(
        "synthetic.kind", "every document says that the run is synthetic", kinds, [WORD, WORD, True]
    )
    expected: dict[str, Any] = {
        "kind": WORD,
        "outcome": "BUDGET_DONE",
        "steps": plan.num_steps,
        "checkpoints": [],
    }
    expected |= dict.fromkeys(("certificate", "final_val_loss", "tokens_per_sec"))
    claim = "the record is that of a scripted run"
    keys = sorted({*record, *expected})
    yield _agree(
        "record.synthetic", claim, ((key, record.get(key, "missing"), expected.get(key)) for key in keys)
    )
    check, lines = _read_lines(folder / "metrics.jsonl", {"step": int, "train_loss": float, "kind": str})
    yield check
    yield compared("metrics.steps", "metrics has one line a step", len(lines), plan.num_steps)
    rows: list[tuple[str, Any, Any]] = []
    for step, line in enumerate(lines, start=1):
        rows.append((f"loss of step {step}", line["train_loss"], scripted_loss(plan, step)))
        rows.append((f"step {step}", [line["step"], line["kind"]], [step, WORD]))
    yield _agree("metrics.scripted", "the losses are the scripted ones", rows)
    allowed = {"plan.json", "record.json", "metrics.jsonl", "log.txt"}
    others = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    others = [name for name in others if name not in allowed and _PARTS.fullmatch(name)]
    yield compared("synthetic.files", "it has no result of a real run", ", ".join(others) or "none", "none")
    yield from _other_files(folder)


# --- what went in -------------------------------------------------------------------------------


def _init_checks(document: Mapping[str, Any], path: Path | None, say: Say) -> Iterator[Check]:
    inputs = document["inputs"]
    claim = "the checkpoint at hand is the one that went in"
    if path is None:
        if inputs.get("init") is not None:
            yield unjudged("init.file", claim, "not at hand", "--init with the checkpoint")
        return
    opened, facts = _open_model("init.file", path, inputs.get("init"), say)
    yield opened
    if facts is None:
        return
    digests = _model_digests(facts)
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


def _dataset_checks(
    document: Mapping[str, Any], folder: Path | None, plan: RunPlan | None, tokens: list[int], say: Say
) -> Iterator[Check]:
    inputs = document["inputs"]
    parts = {"train": folder, "validation": folder / "val" if folder is not None else None}
    opened: dict[str, TokenDataset] = {}
    for role, path in parts.items():
        claim, expected = f"the {role} shards at hand are those that went in", inputs.get(role)
        if folder is not None and not folder.is_dir():
            raise FileMissing(path=str(folder), kind="dataset folder", made_by="apr tokenize encode-corpus")
        if path is None or not path.is_dir():
            yield unjudged(f"dataset.{role}", claim, "not at hand", "--dataset with the folder of shards")
            continue
        say(f"checking the {role} shards", 0, None)
        try:
            opened[role] = open_dataset(path)
            found = opened[role].dataset_digest
        except AprError as error:
            found = f"{error.id}, {error.message}"
        yield compared(f"dataset.{role}", claim, found, expected)
    gates = {gate["id"]: gate for gate in document["gates"]}
    try:
        if len(opened) == 2:
            yield from _text_gates(gates, opened["train"], opened["validation"], plan)
        if "train" in opened and plan is not None:
            yield from _order_checks(gates, opened["train"], plan, tokens)
    except AprError as error:  # such as fewer windows than the plan consumes
        yield compared(
            "dataset.plan", "the plan can be carried out on these shards", error.message, "it can be"
        )


def _text_gates(
    gates: Mapping[str, Any], train: TokenDataset, validation: TokenDataset, plan: RunPlan | None
) -> Iterator[Check]:
    if (gate := gates.get("tokens.ids")) is not None:
        greatest = max(train.manifest.max_token_id, validation.manifest.max_token_id)
        yield compared(
            "dataset.ids", "the greatest id is the one of the certificate", gate["figure"], greatest
        )
    if (gate := gates.get("tokens.split")) is not None and plan is not None:
        first, second = (window_hashes(part, plan.seq_length) for part in (train, validation))
        shared = len(np.intersect1d(first, second))
        claim = "as many windows as the certificate says are in both parts"
        yield compared("dataset.split", claim, gate["figure"], shared)


def _order_checks(
    gates: Mapping[str, Any], train: TokenDataset, plan: RunPlan, tokens: list[int]
) -> Iterator[Check]:
    """The order of the windows is arithmetic: how many tokens every step saw follows from it."""
    # These two bring torch, which nothing else here needs.
    from apr.data.batches import BatchStream
    from apr.stepzero.order import digested_batches

    stream = BatchStream(train, plan.seq_length, plan.batch_size, plan.seed, plan.allow_shard_cycle)
    if (gate := gates.get("data.order")) is not None:
        num_batches = digested_batches(plan.num_steps * plan.grad_accum, plan.batch_size)
        digest = stream.order_digest(num_batches)
        claim = "the order of the windows is the one of the certificate"
        yield compared("dataset.order", claim, gate["facts"].get("order_sha256"), digest)
    if len(tokens) == 1:
        return
    planned = stream.planned_windows((len(tokens) - 1) * plan.grad_accum)
    last = num_windows(train.total_tokens, plan.seq_length) - 1
    missing = plan.seq_length * (last + 1) - (train.total_tokens - 1)  # padding of the last window
    expected, rows = 0, []
    for step in range(1, len(tokens)):
        windows = planned[(step - 1) * plan.windows_per_step : step * plan.windows_per_step]
        expected += len(windows) * plan.seq_length - missing * int(np.count_nonzero(windows == last))
        rows.append((f"tokens_seen of step {step}", tokens[step], expected))
    yield _agree("dataset.tokens", "every step saw the tokens of its windows", rows)


def refusal_of(path: Path, result: dict[str, Any]) -> VerificationFailed | None:
    """The first check that says no, as an error."""
    first = next((check for check in result["checks"] if check["verdict"] == "no"), None)
    if first is None:
        return None
    found, expected = in_words(first["found"]), in_words(first["expected"])
    return VerificationFailed(
        path=str(path), check=first["id"], claim=first["claim"], found=found, expected=expected
    )


def in_words(value: Any) -> str:
    """Spell what a check found or expected."""
    return "nothing" if value is None or value == "" else str(value)


def require_verified(path: Path) -> dict[str, Any]:
    """Verify a run directory or a certificate, and refuse it where a check says no.

    Raises:
        VerificationFailed: naming the first one; and those of `verify`.
    """
    result = verify(path)
    if (failure := refusal_of(path, result)) is not None:
        raise failure
    return result
