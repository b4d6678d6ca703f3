"""Step zero of a resumed run: the state is the one that was saved, and the run goes on exactly from there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from apr.base.files import read_json, sha256_file
from apr.evals.loss import EvalLoss
from apr.stepzero.gate import GateResult, not_known, verdict_of
from apr.stepzero.messages import capturing, messages_gate
from apr.stepzero.order import digested_batches
from apr.stepzero.reference import LOSS_TOLERANCE
from apr.stepzero.registry import BY_ID
from apr.train.certify import Court, StepZero, environment, stream_of
from apr.train.device import Compute
from apr.train.errors import StateBad
from apr.train.inputs import Inputs
from apr.train.optimizer import build_optimizer, greatest_step, moments
from apr.train.plan import RunPlan
from apr.train.reporter import Reporter
from apr.train.resume import Resumption
from apr.train.resume_subset import subset_gate
from apr.train.run_state import OPTIMIZER, RunState, state_name
from apr.train.state import load_optimizer
from apr.train.subset import trained_parameters

# Nats that the same weights may score differently on another number of threads or in another release: the noise of
# docs/tolerance.md, ten times over in fp32. Where nothing differs the losses must be equal to the bit.
RESUME_TOLERANCE = {"fp32": LOSS_TOLERANCE, "bf16": 1e-2}
_SAME_INPUTS = ("config", "tokenizer", "train", "validation", "plan")
_SAME_PLACE = ("device", "dtype")


def certify_resumed(
    inputs: Inputs, plan: RunPlan, compute: Compute, reporter: Reporter, resumption: Resumption
) -> StepZero:
    """Build the model of a saved state and judge that the run goes on from there and nowhere else.

    Returns:
        As `apr.train.certify.certify`, the stream at the state's cursor.

    Raises:
        AprError: the state cannot be loaded at all.
    """
    state, start = resumption.state, resumption.certificate
    assert state is not None
    assert start is not None
    run_dir = resumption.spec.run_dir
    court = Court(inputs, plan, compute, reporter)
    step0: EvalLoss | None = None
    with capturing() as captured:
        stream = stream_of(inputs, plan, state.cursor)
        court.add(lambda: _start_gate(court, start, state))
        court.judge_file()
        court.judge_tokens()
        decoder = court.build()
        court.judge_module(decoder)
        court.judge_reference(decoder)
        if not court.subset.is_whole and not court.refused:
            digests = court.subset_digests
            court.add(lambda: subset_gate(run_dir, state, decoder, court.subset, digests, start["inputs"]))
        trained = trained_parameters(decoder, court.subset)
        optimizer = build_optimizer(trained, lr=plan.lr, betas=plan.betas, weight_decay=plan.weight_decay)
        if not court.refused:
            court.add(lambda: _optimizer_gate(run_dir, state, dict(trained), optimizer))
            court.judge_optimizer(optimizer, decoder)
        if not court.refused:
            step0 = court.validate(decoder)
            court.add(lambda: _loss_gate(run_dir, state, step0, start, compute))
    court.add(lambda: messages_gate(captured, court.gates))
    certificate = court.seal(resumed_from=start["evidence_digest"])
    return StepZero(
        decoder=decoder,
        optimizer=optimizer,
        certificate=certificate,
        stream=stream,
        step0=step0,
        frozen=court.frozen,
    )


def _start_gate(court: Court, start: Mapping[str, Any], state: RunState) -> GateResult:
    """The inputs, the order and the place are those of the run's own certificate."""
    inputs = {**court.inputs.digests, "plan": court.plan.digest}
    now = environment(court.compute)
    rows = [(name, inputs[name], start["inputs"].get(name)) for name in _SAME_INPUTS]
    rows += [(name, now[name], start["environment"].get(name)) for name in _SAME_PLACE]
    if court.subset.lora is None:
        rows += _weights_rows(court, start, state)
    else:  # the adapters are resume.subset's
        rows.append(("base", inputs["init"], start["inputs"].get("init")))
    order = next((gate for gate in start["gates"] if gate["id"] == "data.order"), None)
    if order is not None:
        rows.append(("order", _order_digest(court), order["facts"].get("order_sha256")))
    wrong = [(name, found, planned) for name, found, planned in rows if found != planned]
    cause = ""
    if wrong:
        name, found, planned = wrong[0]
        cause = f"the {name} of the run was {_short(planned)} at its start, and is {_short(found)} now"
    return GateResult(
        id="resume.start",
        claim=BY_ID["resume.start"].asks,
        verdict=verdict_of(not wrong),
        figure=len(wrong),
        limit=0,
        cause=cause,
        facts={"step": state.step, "compared": [name for name, _, _ in rows]},
    )


def _weights_rows(court: Court, start: Mapping[str, Any], state: RunState) -> list[tuple[str, Any, Any]]:
    """The weights are those of the state, and the state is of this run."""
    init = court.inputs.init
    lineage = (init.facts.lineage if init else None) or {}
    return [
        ("weights", init.file.file_digest if init else None, state.weights_digest),
        ("certificate", lineage.get("certificate_digest"), start["evidence_digest"]),
        ("step", lineage.get("step"), state.step),
    ]


def _order_digest(court: Court) -> str:
    plan = court.plan
    num_batches = digested_batches(plan.num_steps * plan.grad_accum, plan.batch_size)
    return stream_of(court.inputs, plan).order_digest(num_batches)


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) else str(value)


def _optimizer_gate(
    run_dir: Path,
    state: RunState,
    parameters: Mapping[str, torch.Tensor],
    optimizer: torch.optim.AdamW,
) -> GateResult:
    path = run_dir / state_name(state.step) / OPTIMIZER
    if not path.is_file():
        raise StateBad(path=str(path), step=state.step, reason="it is missing")
    found, cause = sha256_file(path), ""
    made = state.step - len(state.books["trail"]["skipped"])
    if found != state.optimizer_state_sha:
        cause = (
            f"the optimizer's state has sha256 {found[:12]}, and {state.optimizer_state_sha[:12]} was saved"
        )
    else:
        load_optimizer(path, parameters, optimizer)
        if (step := greatest_step(optimizer)) != made:
            cause = f"the optimizer counts {step:g} steps, and {made} were made when the state was saved"
    return GateResult(
        id="resume.optimizer",
        claim=BY_ID["resume.optimizer"].asks,
        verdict=verdict_of(not cause),
        figure=greatest_step(optimizer),
        limit=made,
        cause=cause,
        facts={"sha256": found, "num_state_tensors": len(moments(optimizer))},
    )


def _loss_gate(
    run_dir: Path, state: RunState, now: EvalLoss | None, start: Mapping[str, Any], compute: Compute
) -> GateResult:
    claim = BY_ID["resume.loss"].asks
    if not state.weights.startswith("ckpt/") or now is None:
        return not_known("resume.loss", claim, "the state was saved between two validations")
    path = run_dir / f"{state.weights.removesuffix('.apr')}.metadata.json"
    recorded = read_json(path, "metadata of the checkpoint", "apr pretrain").get("val_loss")
    here, there = environment(compute), start["environment"]
    same = all(here[name] == there.get(name) for name in ("versions", "device", "dtype", "threads"))
    limit = 0.0 if same else RESUME_TOLERANCE[compute.dtype_name]
    gap = abs(now.loss - recorded) if isinstance(recorded, float) else float("inf")
    holds = gap <= limit
    return GateResult(
        id="resume.loss",
        claim=claim,
        verdict=verdict_of(holds),
        figure=gap,
        limit=limit,
        cause="" if holds else f"the saved weights score {now.loss:.6f} nats, and {recorded} was recorded",
        facts={
            "recorded": recorded,
            "measured": now.loss,
            "unit": "nats per token",
            "same_environment": same,
        },
    )
