"""The steps that are over, for a logger that lacks some: what a kill took from it, or all, if it is new."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from apr.base.files import read_json

STEP_FIGURES = ("train_loss", "grad_norm", "lr", "tokens_per_sec", "tokens_seen")
VALIDATION_FIGURES = ("val_loss", "val_standard_error")


def figures_between(run_dir: Path, after: int, last: int) -> Iterator[tuple[int, Mapping[str, float | None]]]:
    """The figures of steps and validations, as the loggers of an undisturbed run were sent them.

    Args:
        run_dir: with at least `last` lines in metrics.jsonl, to which others may just be added.
        after, last: the steps: `after` is not among them, `last` is.

    Yields:
        (step, figures), in order.
    """
    path = run_dir / "metrics.jsonl"
    if after >= last or not path.is_file():
        return
    validations = _validations(run_dir)
    with path.open(encoding="utf-8") as stream:
        for row in stream:
            line = json.loads(row)
            step = line["step"]
            if step > after:
                yield step, {name: line[name] for name in STEP_FIGURES}
                if step in validations:
                    yield step, validations[step]
            if step >= last:  # what comes behind it is being written
                return


def _validations(run_dir: Path) -> dict[int, dict[str, float | None]]:
    found = (read_json(path) for path in run_dir.glob("ckpt/*.metadata.json"))
    return {said["step"]: {name: said[name] for name in VALIDATION_FIGURES} for said in found}
