"""The runners of bounded proofs. What each shows has a name of its own, and none stands for another."""

from __future__ import annotations

import json
from typing import Any

from pv.contract.proof import Prover
from pv.run.answer import Answer, Said
from pv.run.crosshair import run_crosshair
from pv.run.execution import Executed, Ground, execute

DEFAULT_EXAMPLES = 100
DEFAULT_SEED = 0
EXHAUSTED = "exhausted"
SAMPLED = "sampled"


def run_prover(prover: Prover, ground: Ground, timeout_s: float) -> Answer:
    """Look for a counterexample.

    Args:
        prover: how, and within which bound.
        ground: where.
        timeout_s: after which it is stopped, and nothing is known.
    """
    if prover.kind == "crosshair":
        return run_crosshair(prover, ground, timeout_s)
    bound = {
        "domain": prover.domain,
        "size": prover.size or 0,
        "examples": prover.examples or DEFAULT_EXAMPLES,
        "seed": DEFAULT_SEED if prover.seed is None else prover.seed,
    }
    argv = ground.project.inside("prove.py", prover.kind, prover.target, json.dumps(bound))
    done = execute(argv, ground, timeout_s)
    nothing = done.no_answer(argv, ground)
    if nothing is not None:
        return nothing
    ended = done.event("ended")
    if ended is None:
        why = f"its process ended with exit code {done.finished.exit_code} before it told anything"
        return done.answer(Said.NOTHING, why, argv, ground)
    if ended.get("how") in ("exhausted", "sampled") and done.finished.exit_code != 0:
        why = f"it came to its end, and its process ended with exit code {done.finished.exit_code}"
        return done.answer(Said.NOTHING, why, argv, ground)
    return _told(dict(ended), done, argv, ground)


def _told(ended: dict[str, Any], done: Executed, argv: list[str], ground: Ground) -> Answer:
    """The answer that our script told."""
    how, says = str(ended.get("how")), str(ended.get("says", ""))
    facts = {name: ended[name] for name in ("cases", "seed", "counterexample") if name in ended}
    first = says.partition("\n")[0]
    if how == "exhausted":
        why = f"all {ended['cases']:,} cases of the domain hold"
        return done.answer(Said.HELD, why, argv, ground, facts={"grade": EXHAUSTED, **facts})
    if how == "sampled":
        why = f"no counterexample among {ended['cases']:,} examples (seed {ended['seed']})"
        return done.answer(Said.HELD, why, argv, ground, facts={"grade": SAMPLED, **facts})
    if how == "raised":
        why = f"counterexample {facts.get('counterexample', '')}: {first}"[:300]
        asserted = ended.get("asserted") is True
        return done.answer(Said.FAILED, why, argv, ground, asserted=asserted, says=says, facts=facts)
    prefix = "it cannot be begun" if how == "unimportable" else "it shows nothing"
    return done.answer(Said.NOTHING, f"{prefix} ({first})", argv, ground, facts=facts)
