"""A scripted run: it must say so everywhere, and hold nothing that could be taken for a run's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from apr.stepzero.verify import Check, compared, unjudged
from apr.train.plan import RunPlan
from apr.train.synthetic import WORD, scripted_loss
from apr.workflows.verify_documents import PARTS, agreement, read_lines


def other_files_check(folder: Path) -> Iterator[Check]:
    """Name what lies in a run directory and is no part of a run."""
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    others = [name for name in found if not PARTS.fullmatch(name)]
    if others:
        yield unjudged("files.others", "every file is a part of a run", ", ".join(others), "no other file")


def synthetic_checks(
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
    yield agreement(
        "record.synthetic", claim, ((key, record.get(key, "missing"), expected.get(key)) for key in keys)
    )
    check, lines = read_lines(folder / "metrics.jsonl", {"step": int, "train_loss": float, "kind": str})
    yield check
    yield compared("metrics.steps", "metrics has one line a step", len(lines), plan.num_steps)
    rows: list[tuple[str, Any, Any]] = []
    for step, line in enumerate(lines, start=1):
        rows.append((f"loss of step {step}", line["train_loss"], scripted_loss(plan, step)))
        rows.append((f"step {step}", [line["step"], line["kind"]], [step, WORD]))
    yield agreement("metrics.scripted", "the losses are the scripted ones", rows)
    allowed = {"plan.json", "record.json", "metrics.jsonl", "log.txt"}
    others = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    others = [name for name in others if name not in allowed and PARTS.fullmatch(name)]
    yield compared("synthetic.files", "it has no result of a real run", ", ".join(others) or "none", "none")
    yield from other_files_check(folder)
