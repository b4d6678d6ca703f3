"""`apr plan`: check everything that can be checked without a model, and say what the run would take."""

from __future__ import annotations

from typing import Any

from apr.arch.counts import parameter_count
from apr.base.environment import keep_freed_memory, resident_bytes
from apr.data.windows import num_windows
from apr.train.certify_documents import require_separators
from apr.train.device import check_device_word, resolve_compute
from apr.train.fit import checkpoint_bytes, disk_bytes, free_memory, require_disk, require_memory, run_memory
from apr.train.inputs import Inputs
from apr.train.loggers import checked_loggers
from apr.train.pace import Pace, measure_pace
from apr.train.plan import RunPlan, check_fit, plan_warnings, resolve
from apr.train.reporter import Reporter
from apr.train.spec import RunSpec
from apr.train.subset import subset_of

_PLACES = ("init", "arch", "tokenizer", "dataset", "val_shard", "run_dir")


def estimate(spec: RunSpec, reporter: Reporter) -> dict[str, Any]:
    """Resolve the plan, check the inputs and the machine against it, and estimate memory and time.

    Nothing is written, and no model is built: the time is that of a block or two, measured once it is known that the
    run fits.

    Returns:
        {plan, inputs, num_parameters, num_trainable, available_windows, num_tokens, corpus_epochs, memory,
        memory_bytes, disk, seconds_per_step, tokens_per_sec, seconds_per_validation, seconds, warnings}.

    Raises:
        AprError: what would refuse the run before its first allocation.
    """
    plan = resolve(spec)
    check_device_word(plan.device)
    checked_loggers(spec)
    compute = resolve_compute(plan.device, plan.dtype)
    keep_freed_memory()  # as the run does: it changes what a step takes
    before = resident_bytes()
    with Inputs(spec, reporter) as inputs:
        windows = inputs.count_windows(plan.seq_length)
        config = inputs.config
        check_fit(plan, config, dataset=str(spec.dataset), available_windows=windows)
        require_separators(inputs, plan)
        memory = run_memory(plan, compute, inputs, before[1] if before else None)
        require_memory(plan, compute, inputs)
        require_disk(spec.run_dir, plan, config)
        validation_windows = num_windows(inputs.validation.total_tokens, plan.seq_length)
    subset = subset_of(plan, config)
    warnings = [text for text in (compute.note, *plan_warnings(spec, plan), *subset.notes) if text]
    for text in warnings:
        reporter.note(text)
    reporter.phase("measuring what a step takes", 0, None)
    return {
        "plan": plan.to_dict(),
        "inputs": _places(spec),
        "num_parameters": parameter_count(config),
        "num_trainable": subset.num_trainable,
        "available_windows": windows,
        "num_tokens": plan.num_windows * plan.seq_length,
        "corpus_epochs": plan.num_windows / windows,
        "memory": {**memory.to_dict(), "available": free_memory(compute)},
        "memory_bytes": memory.peak,
        "disk": {"checkpoint": checkpoint_bytes(config), "all": disk_bytes(plan, config)},
        **_times(plan, measure_pace(plan, config, compute), validation_windows),
        "warnings": warnings,
    }


def _places(spec: RunSpec) -> dict[str, Any]:
    """What is read and written, and where that was asked for."""
    named = {name: getattr(spec, name) for name in _PLACES} | {"log": ",".join(spec.log or ()) or None}
    return {
        name: {"value": str(value), "source": spec.source_of(name)}
        for name, value in named.items()
        if value is not None
    }


def _times(plan: RunPlan, pace: Pace, validation_windows: int) -> dict[str, float | None]:
    """Steps, and a validation after each epoch and one before the first; step zero's other gates are not counted."""
    num_validated = min(validation_windows, max(1, plan.val_tokens // plan.seq_length)) * plan.seq_length
    validation = pace.validation(num_validated)
    tokens = plan.windows_per_step * plan.seq_length
    return {
        "seconds_per_step": pace.step,
        "tokens_per_sec": tokens / pace.step,
        "seconds_per_validation": validation,
        "seconds": plan.num_steps * pace.step + (plan.num_epochs + 1) * validation,
    }
