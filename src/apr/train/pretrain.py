"""`apr pretrain`: inputs, plan, step zero, loop, record."""

from __future__ import annotations

from typing import Any

from apr.base.environment import keep_freed_memory
from apr.base.errors import BadOption
from apr.train.certify_documents import require_separators
from apr.train.device import Compute, check_device_word, resolve_compute
from apr.train.errors import RanksUneven
from apr.train.fit import require_memory
from apr.train.inputs import Inputs
from apr.train.log_reporter import Loggers
from apr.train.loggers import checked_loggers
from apr.train.plan import RunPlan, check_fit, resolve
from apr.train.ranks import Ranks, joined
from apr.train.reporter import Reporter
from apr.train.resume import (
    INPUTS,
    Resumption,
    open_resumption,
    record_inputs,
    require_lineage,
    require_same_inputs,
    rewind,
    spec_of_state,
)
from apr.train.run import Run
from apr.train.run_dir import Onlooker, RunDir
from apr.train.spec import RunSpec
from apr.train.subset import subset_of
from apr.train.synthetic import run_synthetic


def pretrain(spec: RunSpec, reporter: Reporter) -> dict[str, Any]:
    """Run what was asked, or go on with what a run directory holds.

    Returns:
        The record: {outcome, steps, certificate, final_val_loss, tokens_per_sec, checkpoints, ...}.

    Raises:
        AprError: the run was refused or ended badly; where a run directory exists, its record says so too.
    """
    keep_freed_memory()
    with joined() as ranks:
        return _pretrain(spec, reporter, ranks)


def _pretrain(spec: RunSpec, reporter: Reporter, ranks: Ranks) -> dict[str, Any]:
    hold = RunDir if ranks.is_first else Onlooker
    if spec.resume:
        check_device_word(spec.device or "auto")
        with hold(spec.run_dir, resumes=True) as run_dir:
            resumption = ranks.in_turn(lambda: open_resumption(spec))
            return _resume(resumption, run_dir, reporter, ranks)
    plan = resolve(spec)
    check_device_word(plan.device)
    checked_loggers(spec)
    if plan.synthetic:
        if ranks.num > 1:
            raise BadOption(
                option="--synthetic", value=f"on {ranks.num} processes", limit="for more than one process"
            )
        with RunDir(spec.run_dir) as run_dir:
            return run_synthetic(plan, run_dir, reporter)
    compute = resolve_compute(plan.device, plan.dtype, ranks)
    with Inputs(spec, reporter) as inputs:
        _require_fit(inputs, plan, compute, spec)
        with hold(spec.run_dir) as run_dir:
            run_dir.write(INPUTS, record_inputs(spec))
            run_dir.write("plan.json", plan.to_dict())  # from here on there is something to resume
            with Loggers(spec, plan, run_dir, reporter) as loggers:
                return Run(
                    spec=spec, plan=plan, compute=compute, inputs=inputs, run_dir=run_dir, reporter=loggers
                ).carry_out()


def _resume(resumption: Resumption, run_dir: RunDir, reporter: Reporter, ranks: Ranks) -> dict[str, Any]:
    spec, plan, state = resumption.spec, resumption.plan, resumption.state
    compute = resolve_compute(plan.device, plan.dtype, ranks)
    checked_loggers(spec)
    if state is not None:
        require_lineage(resumption)
        spec = spec_of_state(resumption, state)
    with Inputs(spec, reporter) as inputs, Loggers(spec, plan, run_dir, reporter) as loggers:
        if state is None:
            require_same_inputs(resumption, inputs.digests)
        _require_fit(inputs, plan, compute, spec)
        if ranks.is_first:
            rewind(run_dir, state)
        if state is None:  # it begins again, from what is given now
            run_dir.write(INPUTS, record_inputs(spec))
        return Run(
            spec=spec,
            plan=plan,
            compute=compute,
            inputs=inputs,
            run_dir=run_dir,
            reporter=loggers,
            resumption=resumption,
        ).carry_out()


def _require_fit(inputs: Inputs, plan: RunPlan, compute: Compute, spec: RunSpec) -> None:
    if plan.windows_per_step % compute.ranks.num:
        raise RanksUneven(num_windows=plan.windows_per_step, num_ranks=compute.ranks.num)
    check_fit(
        plan,
        inputs.config,
        dataset=str(spec.dataset),
        available_windows=inputs.count_windows(plan.seq_length),
    )
    subset_of(plan, inputs.config)  # refuses what names nothing, or everything
    require_separators(inputs, plan)
    require_memory(plan, compute, inputs)
