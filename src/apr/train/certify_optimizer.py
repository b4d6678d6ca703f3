"""The gates of a run's optimizer: fresh, with the plan's settings for every tensor, at the plan's rates."""

from __future__ import annotations

import torch

from apr.model.decoder import Decoder
from apr.stepzero import gates
from apr.stepzero.gate import GateResult
from apr.stepzero.schedule import implied_rate, schedule_gate, telling_steps
from apr.train.optimizer import (
    EPSILON,
    greatest_moment,
    greatest_step,
    moments,
    read_learning_rate,
    read_settings,
    set_learning_rate,
)
from apr.train.plan import RunPlan
from apr.train.subset import Subset


def fresh_gate(optimizer: torch.optim.AdamW) -> GateResult:
    """Judge that no step was made with it and no moment is left in it."""
    return gates.optimizer_gate(
        num_state_tensors=len(moments(optimizer)),
        max_moment=greatest_moment(optimizer),
        max_step=greatest_step(optimizer),
    )


def read_back_gate(optimizer: torch.optim.AdamW, plan: RunPlan) -> GateResult:
    """Apply the plan's rate at the telling steps and read it back, as the loop will."""
    rates = []
    for step in telling_steps(plan.num_steps, plan.warmup_steps):
        implied = implied_rate(
            step,
            peak=plan.lr,
            warmup_steps=plan.warmup_steps,
            num_steps=plan.num_steps,
            schedule=plan.schedule,
        )
        planned = plan.learning_rate(step)
        set_learning_rate(optimizer, planned)
        rates.append((step, implied, planned, read_learning_rate(optimizer)))
    set_learning_rate(optimizer, plan.learning_rate(0))
    return schedule_gate(rates, num_steps=plan.num_steps, warmup_steps=plan.warmup_steps, peak=plan.lr)


def settings_gate(
    optimizer: torch.optim.AdamW, decoder: Decoder, plan: RunPlan, subset: Subset
) -> GateResult:
    """Hold what the optimizer says of each tensor against what the config's inventory and the plan imply."""
    planned = {
        spec.name: (plan.weight_decay if len(spec.shape) > 1 else 0.0, *plan.betas, EPSILON)
        for spec in subset.trainable
    }
    return gates.optimizer_settings_gate(
        planned=planned, read_back=read_settings(optimizer, decoder.named_parameters())
    )
