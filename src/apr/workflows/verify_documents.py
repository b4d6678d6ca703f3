"""What a run directory says, parsed: each document read strictly, and held against what apr would have written."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apr.stepzero.verify import Check, compared, is_number, parse_document, read_written
from apr.train.plan import RunPlan

Say = Callable[[str, int, int | None], None]  # what is being done, done, total

_SAME = 1e-12  # relative: the last digits of a cosine or a sum differ between machines
ENDED = ("TARGET_MET", "BUDGET_DONE", "EARLY_STOP")  # words of a run that nothing stopped
PARTS = re.compile(
    r"(plan|record|certificate|best|inputs|loggers)\.json|metrics\.jsonl|log\.txt|ckpt/epoch-\d{3,}\.(apr|metadata\.json)"
    r"|ckpt/epoch-\d{3,}\.adapter/adapter_(model\.safetensors|config\.json)"
    r"|(tensorboard|wandb)/.+|resumes/\d{3,}\.json|state/step-\d{8,}/((optimizer|adapters)\.safetensors|progress\.json|model\.apr)"
)
_NUMBER, _NUMBER_OR_NULL, _NULL = int | float, int | float | None, type(None)
_RECORD: dict[str, Any] = {"format": str, "outcome": str, "steps": int, "tokens": int}
_RECORD |= {"checkpoints": list, "removed": list, "certificate": dict | None, "error": dict | None}
_RECORD |= {"loggers": list, "spikes": list}
_RECORD |= {"final_val_loss": _NUMBER_OR_NULL, "tokens_per_sec": _NUMBER_OR_NULL}
LINE: dict[str, Any] = {"step": int, "tokens_seen": int, "gpu_util_pct": _NULL}
LINE |= dict.fromkeys(("train_loss", "grad_norm", "lr", "tokens_per_sec"), _NUMBER)
_SKIPPED: dict[str, Any] = {"skipped": bool, "spike": str, "spike_limit": float}  # more, where it applies
_METADATA: dict[str, Any] = {"epoch": int, "step": int, "tokens_seen": int, "wall_seconds": _NUMBER}
_METADATA |= {"optimizer_state_sha": str, "file_digest": str}
_METADATA |= dict.fromkeys(
    ("train_loss", "val_loss", "val_standard_error", "val_gain_noise"), _NUMBER_OR_NULL
)
_METADATA |= dict.fromkeys(("train_ppl", "val_ppl", "grad_norm_max"), _NUMBER_OR_NULL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
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

    @property
    def unfinished(self) -> str | None:
        """The checkpoint of a save that failed behind its weights: it may be whole, and nothing here vouches for it."""
        number = len(self.record["checkpoints"]) + 1
        name = f"ckpt/epoch-{number:03d}"
        was_due = len(self.lines) >= min(number * self.plan.steps_per_epoch, self.plan.num_steps) > 0
        is_described = (self.folder / f"{name}.metadata.json").exists()
        is_there = (self.folder / f"{name}.apr").is_file() and not is_described
        return f"{name}.apr" if self.record["outcome"] == "REFUSED" and was_due and is_there else None


def read_document(folder: Path, name: str) -> tuple[list[Check], dict[str, Any] | None]:
    """A document that must be there, in the bytes that apr writes."""
    path, check_name = folder / name, name.removesuffix(".json")
    if not path.is_file():
        claim = "the file is there"
        return [compared(f"{check_name}.bytes", claim, "missing", "a file")], None
    check, document = read_written(check_name, path.read_bytes())
    return [check], document


def fields_check(name: str, document: Mapping[str, Any], kinds: Mapping[str, Any]) -> Check:
    """Claim that a document has every field, each of its kind, and no other."""
    wrong = [key for key, kind in kinds.items() if key not in document or not isinstance(document[key], kind)]
    wrong += [f"another field, {key}" for key in sorted(document.keys() - kinds.keys())]
    claim = "every field is there and of its kind, and no other"
    return compared(f"{name}.fields", claim, wrong[0] if wrong else "all", "all")


def plan_of(document: Mapping[str, Any]) -> RunPlan | None:
    """The plan as a value; None where a value is missing, unknown or of another kind."""
    try:
        return RunPlan.from_dict(document)
    except ValueError:
        return None


def assemble(
    folder: Path,
    certificate: dict[str, Any] | None,
    plan: RunPlan,
    record: dict[str, Any],
    checks: list[Check],
) -> Run | None:
    """Read the other documents; None where one cannot be used, which `checks` then says."""
    before = len(checks)
    checks.append(fields_check("record", record, _RECORD))
    lines_check, lines = read_lines(folder / "metrics.jsonl", LINE, _SKIPPED)
    checks.append(lines_check)
    if any(check.verdict == "no" for check in checks[before:]):
        return None
    epochs: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(map(str, record["checkpoints"])):
        about = f"{name.removesuffix('.apr')}.metadata"
        found, metadata = read_document(folder, f"{about}.json")
        kinds = {**_METADATA, "merge": dict} if plan.lora else _METADATA
        checks += [*found, *([fields_check(about, metadata, kinds)] if metadata is not None else [])]
        if metadata is None or checks[-1].verdict == "no":
            return None
        epochs[name] = metadata
    return Run(folder=folder, certificate=certificate, plan=plan, record=record, lines=lines, epochs=epochs)


def read_lines(
    path: Path, kinds: Mapping[str, Any], more: Mapping[str, Any] | None = None
) -> tuple[Check, tuple[dict[str, Any], ...]]:
    """Read `metrics.jsonl` up to its first line that apr would not have written, which the check then names.

    Args:
        path: the file.
        kinds: of every line's fields.
        more: of the fields that a line has all or none of.
    """
    claim = "every line is a step as apr writes it, and every number is finite"
    raw = path.read_bytes() if path.is_file() else b""
    lines, wrong = [], "none" if raw.endswith(b"\n") or not raw else "the last line, which is cut off"
    for number, row in enumerate(raw.split(b"\n")[:-1], start=1):
        line = _parse_line(row, kinds, more or {})
        if line is None:
            wrong = f"line {number}"
            break
        lines.append(line)
    return compared("metrics.lines", claim, wrong, "none"), tuple(lines)


def _parse_line(row: bytes, kinds: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any] | None:
    """A line of metrics; None where it is not one that apr writes."""
    try:
        line = parse_document(row)
    except ValueError:
        return None
    if line.keys() & more.keys():
        kinds = {**kinds, **more}
    typed = line.keys() == kinds.keys() and all(isinstance(line[key], kind) for key, kind in kinds.items())
    is_written = json.dumps(line).encode() == row
    return line if typed and is_written and line.get("tokens_per_sec", 1) > 0 else None


def agreement(check_id: str, claim: str, rows: Iterable[tuple[str, Any, Any]]) -> Check:
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
