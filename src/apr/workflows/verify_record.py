"""What the documents of a run say of each other: plan, certificate, metrics, epochs, record."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from apr.base.files import sha256_bytes, sha256_file
from apr.stepzero.gate import GateResult
from apr.stepzero.verify import Check, compared, missing_gates, shown
from apr.train.errors import LossDiverged, NotFinite, StateBad
from apr.train.plan import FIRST_PATIENT_EPOCH, PATIENCE_EPOCHS
from apr.train.run_state import (
    KEPT_STATES,
    OPTIMIZER,
    in_order,
    read_state,
    removable,
    saved_steps,
    state_name,
)
from apr.workflows.verify_documents import ENDED, Run, agreement, read_document
from apr.workflows.verify_spikes import SPIKE_ERRORS, spike_checks, steps_of_optimizer


def record_checks(run: Run) -> Iterator[Check]:
    """Hold every document against the others, with nothing but the run directory at hand.

    Args:
        run: the parsed documents.

    Returns:
        The checks, one claim each.
    """
    for judge in (
        _link_checks,
        _metrics_checks,
        _outcome_checks,
        _epoch_checks,
        _best_checks,
        _state_checks,
        _logger_checks,
        spike_checks,
    ):
        yield from judge(run)


def _link_checks(run: Run) -> Iterator[Check]:
    said, document = run.record["certificate"], run.certificate
    claim = "the record repeats the certificate of this folder"
    if document is None or said is None:
        there = ["none" if value is None else "a certificate" for value in (said, document)]
        yield compared("record.certificate", claim, *there)
    else:
        same = ((key, shown(said.get(key)), shown(document.get(key))) for key in sorted({*said, "digest"}))
        yield agreement("record.certificate", claim, same)
        claim = "the certificate is of this plan"
        yield compared("certificate.plan", claim, document["inputs"].get("plan"), run.plan.digest)
        gates = [GateResult(**gate) for gate in document["gates"]]
        missing = missing_gates(
            gates,
            document["not_judged"],
            document["inputs"],
            num_steps=run.plan.num_steps,
            document_mask=run.plan.document_mask,
        )
        claim = "every gate that this plan needs is judged, or listed as not judged"
        yield compared("certificate.needed", claim, ", ".join(missing) or "none missing", "none missing")
    if document is None or document["verdict"] == "no":
        trained = f"{len(run.lines)} steps, {len(run.record['checkpoints'])} checkpoints"
        claim = "without a certificate that says yes nothing was trained"
        yield compared("run.permitted", claim, trained, "0 steps, 0 checkpoints")


def _metrics_checks(run: Run) -> Iterator[Check]:
    plan, lines, tokens = run.plan, run.lines, run.tokens_at
    odd = next((i for i, line in enumerate(lines, start=1) if line["step"] != i), None)
    found = len(lines) if odd is None else f"another step in line {odd}"
    claim = "metrics has one line a step, without gap or repetition"
    yield compared("metrics.steps", claim, found, run.record["steps"])
    claim = "the learning rate of every step is the plan's"
    rates = ((f"lr of step {i + 1}", line["lr"], plan.learning_rate(i)) for i, line in enumerate(lines))
    yield agreement("metrics.lr", claim, rates)
    most = plan.windows_per_step * plan.seq_length
    odd = next((i for i in range(1, len(tokens)) if not 0 < tokens[i] - tokens[i - 1] <= most), None)
    claim = f"every step sees at least one token and at most {most}"
    yield compared("metrics.tokens", claim, "all" if odd is None else f"not step {odd}", "all")
    yield compared(
        "record.tokens", "the record counts the tokens of metrics", run.record["tokens"], tokens[-1]
    )
    spent = sum((tokens[i + 1] - tokens[i]) / line["tokens_per_sec"] for i, line in enumerate(lines))
    speed = (("tokens_per_sec", run.record["tokens_per_sec"], tokens[-1] / spent if spent > 0 else None),)
    yield agreement("record.tokens_per_sec", "the record's speed is the mean of metrics", speed)


def _outcome_checks(run: Run) -> Iterator[Check]:
    plan, record = run.plan, run.record
    claim = "the word for the end follows from the steps, the losses and the error"
    yield compared("record.outcome", claim, record["outcome"], _outcome(run))
    refusal = next(
        (gate for gate in (run.certificate or {}).get("gates", ()) if gate["verdict"] == "no"), None
    )
    if refusal is not None:
        told = str((record["error"] or {}).get("message", "no error"))
        claim = "the error is the refusal of the certificate"
        names_it = refusal["id"] in told and (refusal["cause"] or "") in told
        yield compared("record.error", claim, "the gate" if names_it else told, "the gate")
    validated = [epoch["val_loss"] for epoch in run.epochs.values() if epoch["val_loss"] is not None]
    final = validated[-1] if validated and record["steps"] else None
    claim = "the record's validation loss is the last that was kept"
    yield compared("record.final_val_loss", claim, record["final_val_loss"], final)
    if record["outcome"] in ENDED and record["steps"] == plan.num_steps:
        high = plan.num_windows * plan.seq_length
        # Only the last window of the corpus may be short, and a run that repeats the corpus meets it again.
        low = 0 if plan.allow_shard_cycle else max(0, high - plan.seq_length + 1)
        claim = "the tokens that were planned were seen, but for those that a short last window lacks"
        limits = f"{low} to {high}"
        yield compared(
            "record.planned", claim, limits if low <= record["tokens"] <= high else record["tokens"], limits
        )


def _outcome(run: Run) -> str:
    """The word that the run must have ended with."""
    plan, steps, error = run.plan, run.record["steps"], run.record["error"]
    if error is not None and error.get("id") in SPIKE_ERRORS:
        return "SPIKE"
    if error is not None:
        return "DIVERGED" if error.get("id") in (NotFinite.id, LossDiverged.id) else "REFUSED"
    losses = [epoch["val_loss"] for epoch in run.epochs.values()]
    noises = [epoch["val_gain_noise"] for epoch in run.epochs.values()]
    if None in losses or run.last is None or run.last["step"] != steps:
        return "INTERRUPTED"
    if steps == plan.num_steps:
        return "TARGET_MET" if steps and losses[-1] <= plan.target_val_loss else "BUDGET_DONE"
    return "EARLY_STOP" if _is_out_of_patience(losses, noises) else "INTERRUPTED"


def _is_out_of_patience(losses: list[float], noises: list[float | None]) -> bool:
    """Whether the last epochs brought no gain above the noise (INV-TRAIN-004)."""
    gained, without_gain = math.inf, 0
    for loss, noise in zip(losses, noises, strict=True):
        if loss < gained - (noise or 0.0):
            gained, without_gain = loss, 0
        else:
            without_gain += 1
    return len(losses) >= FIRST_PATIENT_EPOCH and without_gain >= PATIENCE_EPOCHS


def _epoch_checks(run: Run) -> Iterator[Check]:
    """Which checkpoints there are, and what their metadata says of the steps."""
    steps, cadence, listed = (
        len(run.lines),
        run.plan.steps_per_epoch,
        list(map(str, run.record["checkpoints"])),
    )
    begun = math.ceil(steps / cadence)
    numbers = list(range(1, begun + 1)) if steps or run.record["outcome"] != "BUDGET_DONE" else [0]
    if run.record["outcome"] not in ENDED and len(listed) < len(numbers):
        # The last epoch was not closed; and the save of the one before may have failed meanwhile, in the background.
        failed = run.record["outcome"] == "REFUSED" and len(listed) < len(numbers) - 1
        numbers = numbers[: -2 if failed else -1]
    expected = [f"ckpt/epoch-{number:03d}.apr" for number in numbers]
    claim = "the record lists a checkpoint for every epoch"
    yield compared("record.checkpoints", claim, ", ".join(listed), ", ".join(expected))
    there = sorted(path.relative_to(run.folder).as_posix() for path in run.folder.glob("ckpt/*.apr"))
    there = [name for name in there if name != run.unfinished]
    claim = "the checkpoints of the folder are those of the record that --keep keeps"
    removed = list(map(str, run.record["removed"]))
    kept = sorted(set(listed) - set(removed))
    yield compared("ckpt.files", claim, ", ".join(there), ", ".join(kept))
    claim = "no checkpoint was removed that --keep keeps"
    spare = removable(in_order(listed), run.plan.keep, _lowest(run))
    wrong = ", ".join(name for name in removed if name not in spare)
    yield compared("record.removed", claim, wrong or "none", "none")
    start = 0
    for number, (name, said) in zip(numbers, run.epochs.items(), strict=False):
        stop = min(number * cadence, steps)
        claim = "the metadata is what metrics and the epoch's losses give"
        rows = _metadata_rows(run, said, number, start, stop)
        yield agreement(f"{name.removesuffix('.apr')}.metadata", claim, rows)
        start = stop


def _metadata_rows(
    run: Run, said: Mapping[str, Any], number: int, start: int, stop: int
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


def _lowest(run: Run) -> str | None:
    losses = {name: said["val_loss"] for name, said in run.epochs.items() if said["val_loss"] is not None}
    return min(losses, key=losses.__getitem__, default=None)


def _best_checks(run: Run) -> Iterator[Check]:
    validated = {name: said for name, said in run.epochs.items() if said["val_loss"] is not None}
    claim = "best.json points to the checkpoint with the lowest validation loss"
    if not validated:
        there = "a file" if (run.folder / "best.json").exists() else "none"
        yield compared("best.lowest", claim, there, "none")
        return
    checks, best = read_document(run.folder, "best.json")
    yield from checks
    lowest = _lowest(run) or ""
    expected = {"checkpoint": lowest, **{key: validated[lowest][key] for key in ("epoch", "val_loss")}}
    yield agreement("best.lowest", claim, ((key, (best or {}).get(key), expected[key]) for key in expected))


def _state_checks(run: Run) -> Iterator[Check]:
    """INV-TRAIN-003, and that every saved state is where the other documents say that the run was."""
    steps = saved_steps(run.folder)
    ends = {said["step"]: name for name, said in run.epochs.items()}
    claim = "the last checkpoints' steps have a state to go on from, and no later one"
    wanted = sorted(ends)[-KEPT_STATES:] if run.lines else steps
    later = [step for step in steps if step > len(run.lines)]
    missing = [step for step in wanted[-1:] if step not in steps and run.record["steps"]]
    yield compared("state.steps", claim, ", ".join(map(str, [*later, *missing])) or "all", "all")
    for step in steps:
        yield from _one_state(run, step, ends.get(step))


def _logger_checks(run: Run) -> Iterator[Check]:
    """Every step that a process made was sent to its loggers, and what they lost is counted."""
    steps, most = (
        run.record["steps"],
        len(run.epochs) + 1,
    )  # a validation is a line too, also one that was fatal
    for said in run.record["loggers"]:
        claim = "every step since the process began was sent to it, and it lost no more than it was sent"
        name, lines, lost, after = (said.get(key) for key in ("name", "lines", "lost", "after_step"))
        counts = all(type(value) is int and value >= 0 for value in (lines, lost, after))
        holds = counts and 0 <= lines - (steps - after) <= most and lost <= lines
        told = f"{lines} lines and {lost} lost after step {after}"
        yield compared(f"loggers.{name}", claim, "so it is" if holds else told, "so it is")


def _one_state(run: Run, step: int, epoch: str | None) -> Iterator[Check]:
    name = state_name(step)
    try:
        state = read_state(run.folder, step)
    except StateBad as error:
        yield compared(
            f"{name}.progress", "the state can be read, and has its digest", error.reason, "it can"
        )
        return
    path = run.folder / name / OPTIMIZER
    sha = sha256_file(path) if path.is_file() else "missing"
    claim = "the optimizer's state has the digest that its documents say"
    yield compared(f"{name}.optimizer", claim, sha, state.optimizer_state_sha)
    rows: list[tuple[str, Any, Any]] = [
        ("step", state.step, step),
        ("cursor", state.cursor, step * run.plan.windows_per_step),
        ("tokens_seen", state.tokens_seen, run.tokens_at[step] if step < len(run.tokens_at) else None),
        ("epoch", state.epoch, math.ceil(step / run.plan.steps_per_epoch)),
    ]
    made = step - sum("skipped" in line for line in run.lines[:step])
    rows.append(("updates of the optimizer", steps_of_optimizer(path), f"{made}"))
    validated = [said["val_loss"] for said in run.epochs.values() if said["step"] <= step and said["step"]]
    rows.append(("validation losses", state.books.get("val_losses"), validated))
    if epoch is not None:
        said = run.epochs[epoch]
        rows += [("weights", state.weights, epoch), ("digest", state.weights_digest, said["file_digest"])]
        rows.append(("optimizer_state_sha", state.optimizer_state_sha, said["optimizer_state_sha"]))
    begun = (run.folder / "metrics.jsonl").read_bytes() if run.lines else b""
    mark = sha256_bytes(begun[: state.metrics_bytes])
    rows.append(("metrics", mark, state.metrics_sha256))
    yield agreement(f"{name}.progress", "the state is where metrics and metadata say the run was", rows)
