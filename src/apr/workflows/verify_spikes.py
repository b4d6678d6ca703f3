"""The updates that a run left out, derived from its metrics a second time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from safetensors import SafetensorError, safe_open

from apr.stepzero.verify import Check, compared
from apr.train.errors import SpikeFound, SpikesTooMany
from apr.train.plan import RunPlan
from apr.workflows.verify_documents import Run, agreement

SPIKE_ERRORS = (SpikeFound.id, SpikesTooMany.id)
_FIGURES = ("train_loss", "grad_norm")


def spike_checks(run: Run) -> Iterator[Check]:
    """Every update that the plan's policy leaves out is marked in metrics and listed in the record, and no other."""
    limits, skipped = _derived(run)
    claim = "the updates marked as left out are those whose loss or gradient norm is a spike by the plan"
    rows = []
    for line in run.lines:
        wanted = skipped.get(line["step"])
        said = [line[name] for name in ("skipped", "spike", "spike_limit")] if "skipped" in line else None
        rows.append(
            (f"step {line['step']}", said, [True, wanted["figure"], wanted["limit"]] if wanted else None)
        )
    yield agreement("metrics.spikes", claim, rows)
    error, listed = run.record["error"] or {}, list(run.record["spikes"])
    expected = list(skipped.values())
    if error.get("id") in SPIKE_ERRORS:
        expected.append(_last(run, limits, listed))
    claim = "the record lists the updates that were left out, and a spike that ended the run"
    yield compared("record.spikes", claim, listed, expected)
    claim = "no more updates are left out than the plan allows, and the run ended with the next spike"
    told = f"{len(skipped)} left out, then {error.get('id', 'no error')}"
    yield compared("record.spike_policy", claim, "so it is" if _kept(run, len(skipped)) else told, "so it is")


def _derived(run: Run) -> tuple[Mapping[str, float | None], dict[int, dict[str, Any]]]:
    """The limits behind the last line, and the spikes by step."""
    windows: dict[str, list[float]] = {name: [] for name in _FIGURES}
    skipped: dict[int, dict[str, Any]] = {}
    for line in run.lines if run.plan.spike != "off" else ():
        limits = {name: _limit(windows[name], run.plan) for name in _FIGURES}
        above = [name for name in _FIGURES if (at := limits[name]) is not None and line[name] > at]
        if above:
            name = above[0]
            spike = {"step": line["step"], "figure": name, "value": line[name], "limit": limits[name]}
            skipped[line["step"]] = {**spike, "skipped": True}
        else:
            for name in _FIGURES:
                windows[name].append(line[name])
    return {name: _limit(windows[name], run.plan) for name in _FIGURES}, skipped


def _limit(made: Sequence[float], plan: RunPlan) -> float | None:
    """Median and robust deviations of the last updates; None before half a window of them."""
    last = made[-plan.spike_window :]
    if len(last) * 2 < plan.spike_window:
        return None
    centre = median(last)
    deviation = 1.4826 * median([abs(figure - centre) for figure in last])
    return centre + plan.spike_threshold * max(deviation, 0.001 * abs(centre))


def _last(run: Run, limits: Mapping[str, float | None], listed: Sequence[Any]) -> dict[str, Any]:
    """What the spike that ended the run must be: its value is its own, and above the limit."""
    said = listed[-1] if listed and isinstance(listed[-1], dict) else {}
    figure, value = str(said.get("figure")), said.get("value")
    limit = limits.get(figure)
    is_above = isinstance(value, float) and limit is not None and value > limit
    named = {"step": len(run.lines) + 1, "figure": figure, "limit": limit, "skipped": False}
    return {**named, "value": value if is_above else "above the limit"}


def _kept(run: Run, num_skipped: int) -> bool:
    policy, error_id = run.plan.spike, (run.record["error"] or {}).get("id")
    allowed = int(policy.removeprefix("skip:")) if policy.startswith("skip:") else 0
    if error_id == SpikesTooMany.id:
        return policy.startswith("skip:") and num_skipped == allowed
    if error_id == SpikeFound.id:
        return policy == "abort" and not num_skipped
    return num_skipped <= allowed


def steps_of_optimizer(path: Path) -> str:
    """The step counts in an optimizer's state, in words: one number where all agree."""
    try:
        with safe_open(path, "np") as file:
            counts = {float(file.get_tensor(key)) for key in file.keys() if key.endswith(".step")}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        return str(error)
    return ", ".join(f"{count:g}" for count in sorted(counts)) or "0"
