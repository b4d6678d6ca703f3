"""Faults of saving, and of what is told about a run afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from apr.stepzero.faults.aprfiles import flip_bit, place_of, rewritten
from apr.stepzero.faults.fault import Fault, Patch


def _patch(
    name: str,
    gate: str,
    says: str,
    target: str,
    wrap: Callable[[Any], Any],
    imitates: tuple[str, ...],
    **more: Any,
) -> Fault:
    return Fault(
        id=f"checkpoint.{name}", imitates=imitates, place="checkpoint", gate=gate, says=says,
        patches=(Patch(target=target, wrap=wrap),), **more,
    )  # fmt: skip


def _told(
    name: str, says: str, edit: Callable[[Path], None], imitates: tuple[str, ...], **more: Any
) -> Fault:
    """An edit of a finished run directory, which `apr verify` judges."""
    return Fault(
        id=f"checkpoint.{name}", imitates=imitates, place="checkpoint", gate="checkpoint.record", says=says, edit=edit,
        **more,
    )  # fmt: skip


def _stale(original: Any) -> Any:
    """One tensor is written as it was a step ago: the state was put together while it was being saved."""

    def producer(value: Any) -> Any:
        produce = original(value)

        def spoilt() -> np.ndarray:
            values: np.ndarray = np.array(produce())
            if values.ndim == 1:
                values = values + np.float32(1e-3)
            return values

        return spoilt

    return producer


def _one_missing(original: Any) -> Any:
    """A tensor is left out of the file."""

    def write(path: Any, metadata: Any, sources: Any, aliases: Any = None, on_progress: Any = None) -> Any:
        kept = [source for source in sources if not source.name.endswith("layers.0.input_layernorm.weight")]
        return original(path, metadata, kept, aliases, on_progress)

    return write


def _not_written(original: Any) -> Any:
    """The write fails, and only a log line says so."""

    def write(path: Any, *args: Any, **kwargs: Any) -> Any:
        written = original(path, *args, **kwargs)
        Path(path).write_bytes(b"")
        return written

    return write


def _nan_later(original: Any) -> Any:
    """The loss becomes NaN in the second real step."""
    calls = 0

    def accumulate(*args: Any) -> float:
        nonlocal calls
        calls += 1
        loss: float = original(*args)
        return float("nan") if calls > 2 else loss  # the rehearsal is the first call

    return accumulate


def _diverging(original: Any) -> Any:
    """The validation after training has become far worse."""

    def loss(*args: Any, **kwargs: Any) -> Any:
        found = original(*args, **kwargs)
        return replace(found, loss=found.loss * 3)

    return loss


def _json(name: str, change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def edit(run_dir: Path) -> None:
        path = run_dir / name
        document = json.loads(path.read_bytes())
        change(document)
        text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")

    return edit


def _better_loss(document: dict[str, Any]) -> None:
    document["step0"]["val_loss"] = 1.0


def _grade(document: dict[str, Any]) -> None:
    document["grade"] = "A" if document["grade"] != "A" else "B"


def _gate_less(document: dict[str, Any]) -> None:
    document["gates"].pop()


def _other_lr(document: dict[str, Any]) -> None:
    document["values"]["lr"]["value"] = 1e-3


def _outcome(document: dict[str, Any]) -> None:
    document["tokens"] += 1


def _metrics_line_lost(run_dir: Path) -> None:
    path = run_dir / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


def _skip_invented(run_dir: Path) -> None:
    """An update that was made is said to have been left out as a spike."""
    path = run_dir / "metrics.jsonl"
    *rows, last = path.read_text().splitlines()
    line = {**json.loads(last), "skipped": True, "spike": "train_loss", "spike_limit": 0.5}
    path.write_text("\n".join([*rows, json.dumps(line)]) + "\n")


def _state_bit(run_dir: Path) -> None:
    path = sorted(run_dir.glob("state/*/optimizer.safetensors"))[-1]
    flip_bit(path, path.stat().st_size - 9)


def _checkpoint(run_dir: Path) -> Path:
    return sorted((run_dir / "ckpt").glob("*.apr"))[-1]


def _weight_bit(run_dir: Path) -> None:
    path = _checkpoint(run_dir)
    flip_bit(path, place_of(path, "mlp.up_proj.weight")[0] + 3, 2)


def _other_lineage(run_dir: Path) -> None:
    """The checkpoint names another start than the certificate's."""
    rewritten(_checkpoint(run_dir), lambda contents: contents.own["lineage"].update(init_digest="0" * 64))


CHECKPOINT_FAULTS: tuple[Fault, ...] = (
    _patch("stale-tensor", "checkpoint.saved", "a tensor was saved as it had been before", "apr.train.checkpoint:_producer",
           _stale, ("S-133",)),
    _patch("tensor-missing", "checkpoint.saved", "a tensor was left out of the checkpoint", "apr.train.checkpoint:write_apr",
           _one_missing, ("S-133", "S-82")),
    _patch("not-written", "file.container", "the write failed without a word", "apr.train.checkpoint:write_apr",
           _not_written, ("S-81",)),
    _patch("nan-later", "run.steps", "the loss became NaN while training", "apr.train.loop:_accumulate", _nan_later,
           ("S-124",)),
    _patch("diverging", "run.steps", "the validation loss tripled", "apr.train.run:validation_loss", _diverging,
           ("S-88",)),
    _told("certificate-edited", "the certificate named a better loss", _json("certificate.json", _better_loss), ("S-106",)),
    _told("grade-edited", "the certificate named another grade", _json("certificate.json", _grade), ("S-106",)),
    _told("gate-removed", "a gate had been removed from the certificate", _json("certificate.json", _gate_less), ("S-106",)),
    _told("plan-edited", "the plan named another learning rate", _json("plan.json", _other_lr), ("S-08",)),
    _told("record-edited", "the record counted another number of tokens", _json("record.json", _outcome), ("S-133",)),
    _told("metrics-line-lost", "a line of the metrics was missing", _metrics_line_lost, ("S-98",)),
    _told("skip-invented", "an update was said to have been left out", _skip_invented, ("S-101",)),
    _told("state-bit", "a bit of the optimizer's state was flipped", _state_bit, ("S-84",)),
    _told("weight-bit", "a bit of the saved weights was flipped", _weight_bit, ("S-127",)),
    _told("other-lineage", "the checkpoint named another start", _other_lineage, ("S-35", "S-97")),
)  # fmt: skip
