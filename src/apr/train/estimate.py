"""`--dry-run`: check everything that can be checked without a model, and say what the run would take."""

from __future__ import annotations

import time
from typing import Any

import torch

from apr.arch.counts import parameter_count, training_flops_per_token
from apr.train.device import Compute, check_device_word, resolve_compute
from apr.train.inputs import Inputs
from apr.train.plan import check_fit, plan_warnings, required_memory_bytes, resolve
from apr.train.reporter import Reporter
from apr.train.spec import RunSpec

_SHARE_OF_PEAK = (
    0.6  # what the training step reaches of a plain matrix product (bench/, two AVX-512-BF16 cores)
)


def estimate(spec: RunSpec, reporter: Reporter) -> dict[str, Any]:
    """Resolve the plan, check the inputs against it, and estimate memory and time; nothing is written.

    Returns:
        {plan, num_parameters, available_windows, memory_bytes, seconds, warnings}.

    Raises:
        AprError: what would refuse the run before its first allocation.
    """
    plan = resolve(spec)
    check_device_word(plan.device)
    compute = resolve_compute(plan.device, plan.dtype)
    with Inputs(spec, reporter) as inputs:
        windows = inputs.count_windows(plan.seq_length)
        config = inputs.config
        check_fit(plan, config, dataset=str(spec.dataset), available_windows=windows)
    warnings = [text for text in (compute.note, *plan_warnings(spec, plan)) if text]
    for text in warnings:
        reporter.note(text)
    flops = training_flops_per_token(config, plan.seq_length) * plan.num_windows * plan.seq_length
    return {
        "plan": plan.to_dict(),
        "num_parameters": parameter_count(config),
        "available_windows": windows,
        "memory_bytes": required_memory_bytes(plan, config, compute.dtype_name),
        "seconds": flops / (_SHARE_OF_PEAK * product_rate(compute)),
        "warnings": warnings,
    }


def product_rate(compute: Compute, size: int = 2048) -> float:
    """Measure a plain matrix product; returns floating-point operations a second (the best of three)."""
    left = torch.randn(size, size, device=compute.device).to(compute.dtype)
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        left @ left
        if compute.device.type == "cuda":
            torch.cuda.synchronize(compute.device)
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best
