"""`--synthetic`: scripted losses and no compute, to try the plumbing around a run.

Every artifact says SYNTHETIC, no checkpoint is written and no certificate given: none of it can be taken for a run.
"""

from __future__ import annotations

import math
from typing import Any

from apr.train.plan import RunPlan
from apr.train.reporter import Reporter
from apr.train.run_dir import RunDir

WORD = "SYNTHETIC"


def scripted_loss(plan: RunPlan, step: int) -> float:
    """The scripted loss of a step: from 1.8 times the target towards it. It measures nothing."""
    return plan.target_val_loss * (1.0 + 0.8 * math.exp(-3.0 * step / max(1, plan.num_steps)))


def run_synthetic(plan: RunPlan, run_dir: RunDir, reporter: Reporter) -> dict[str, Any]:
    """Write the artifacts of a scripted run; returns its record."""
    run_dir.write("plan.json", {"kind": WORD, **plan.to_dict()})
    reporter.note(f"{WORD}: losses are scripted and nothing is computed")
    run_dir.log(f"{WORD}: no model was built")
    for step in range(1, plan.num_steps + 1):
        loss = scripted_loss(plan, step)
        run_dir.append_metrics({"step": step, "train_loss": loss, "kind": WORD})
    record = {
        "kind": WORD,
        "outcome": "BUDGET_DONE",
        "steps": plan.num_steps,
        "certificate": None,
        "final_val_loss": None,
        "tokens_per_sec": None,
        "checkpoints": [],
    }
    run_dir.write("record.json", record)
    return record
