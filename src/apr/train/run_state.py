"""Where a run stands after a step, as it is read: see `apr.train.state` for how it is saved and loaded."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from apr.base.errors import AprError
from apr.base.files import canonical_json, read_json, sha256_bytes
from apr.train.errors import StateBad

KEPT_STATES = 2  # the one before stays, in case the last is damaged
FORMAT = "apr-state-1"
OPTIMIZER, PROGRESS, WEIGHTS = "optimizer.safetensors", "progress.json", "model.apr"
ADAPTERS = "adapters.safetensors"
UNFINISHED = ".unfinished-"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """Where a run stands after a step."""

    step: int
    epoch: int  # of the last update, 1 for the first
    cursor: int  # windows consumed
    tokens_seen: int
    weights: str  # the file of the weights, relative to the run directory
    weights_digest: str  # its file digest
    optimizer_state_sha: str  # SHA-256 of the optimizer's file
    torch_rng: str  # state of the generator, hexadecimal
    metrics_bytes: int  # length of metrics.jsonl
    metrics_sha256: str  # of those bytes
    books: dict[str, Any]  # of the ledger
    adapters_sha: str = ""  # SHA-256 of the adapters' file; empty where the run trains none

    def to_dict(self) -> dict[str, Any]:
        """JSON values, with a digest over them."""
        values = {"format": FORMAT, **{field.name: getattr(self, field.name) for field in fields(self)}}
        return {**values, "digest": sha256_bytes(canonical_json(values))}


def state_name(step: int) -> str:
    """The folder of a step's state, relative to the run directory."""
    return f"state/step-{step:08d}"


def saved_steps(run_dir: Path) -> list[int]:
    """Steps whose states are whole, in order."""
    names = (path.name.removeprefix("step-") for path in (run_dir / "state").glob("step-*"))
    return sorted(int(name) for name in names if name.isdigit())


def read_state(run_dir: Path, step: int) -> RunState:
    """Read the state of a step.

    Raises:
        StateBad: it is damaged, or another program's.
    """
    path = run_dir / state_name(step) / PROGRESS
    try:
        document = read_json(path, "state of the run", "apr pretrain")
        digest = document.pop("digest")
        if document.pop("format") != FORMAT:
            raise ValueError("another format than apr-state-1")
        state = RunState(**document)
        if state.to_dict()["digest"] != digest:
            raise ValueError("its digest is not of what it says")
    except (AprError, KeyError, TypeError, ValueError) as error:
        raise StateBad(path=str(path), step=step, reason=str(error)) from error
    return state


def clear_unfinished(run_dir: Path) -> None:
    """Remove what a killed save left under temporary names; call it only while holding the directory."""
    for folder in (run_dir / "state").glob(f"{UNFINISHED}*"):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in (run_dir, run_dir / "ckpt", run_dir / "resumes"):
        for path in folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)


def forget(run_dir: Path, keep: str, best: str | None) -> None:
    """Remove the states and checkpoints that the plan does not keep, once newer ones are whole."""
    steps = saved_steps(run_dir)
    for step in steps[:-KEPT_STATES]:
        shutil.rmtree(run_dir / state_name(step), ignore_errors=True)
    needed = set()
    for step in steps[-KEPT_STATES:]:
        with suppress(StateBad):  # a resume will say so; the save that was just made is good
            needed.add(read_state(run_dir, step).weights)
    there = in_order(path.relative_to(run_dir).as_posix() for path in run_dir.glob("ckpt/*.apr"))
    for name in removable(there, keep, best):
        if name not in needed:
            (run_dir / name).unlink(missing_ok=True)
            shutil.rmtree(run_dir / adapter_folder(name), ignore_errors=True)


def adapter_folder(checkpoint: str) -> str:
    """The folder of the adapters that a checkpoint has merged, relative to the run directory."""
    return f"{checkpoint.removesuffix('.apr')}.adapter"


def in_order(names: Iterable[str]) -> list[str]:
    """Names of checkpoints by their numbers: epoch-1000 comes after epoch-999."""
    return sorted(names, key=lambda name: (len(name), name))


def removable(names: Sequence[str], keep: str, best: str | None) -> list[str]:
    """The checkpoints that `--keep` does not ask for.

    Args:
        names: of all checkpoints, oldest first.
        keep: `all`, or `last:N` with or without `,best`.
        best: the one with the lowest validation loss.
    """
    if keep == "all":
        return []
    last, _, also = keep.partition(",")
    older = names[: -int(last.removeprefix("last:"))]
    return [name for name in older if not (also == "best" and name == best)]
