"""Run one claim: decide whether it can be run, run it, and run it once more under each planted defect."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from threading import Event

from pv.contract.contract import Contract
from pv.contract.falsifier import FalsificationTest, Pending
from pv.contract.proof import Proof
from pv.rules.dates import day_of
from pv.run.answer import Answer, Said
from pv.run.crosshair import UNCONFIRMED
from pv.run.execution import Ground
from pv.run.needs import Means, unmet
from pv.run.planting import Controlled, Shown, Unplantable, described, judged, planted
from pv.run.project import Project
from pv.run.runners import run_once
from pv.run.verdict import Result, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How claims are to be run."""

    project: Project
    means: Means = field(default_factory=Means)
    today: date
    with_controls: bool = True
    stop: Event = field(default_factory=Event)


def falsify(
    contract: Contract, part: FalsificationTest | Proof, order: Order, note: Callable[[str], None]
) -> Result:
    """The verdict on one claim.

    Args:
        contract: that makes the claim.
        part: the claim.
        order: how it is to be run.
        note: is told what is being done.
    """
    hindered = _hindered(contract, part, order)
    if hindered is not None:
        return hindered
    start = time.time()
    ground = Ground(project=order.project, root=order.project.root, stop=order.stop)
    note("running")
    answer = run_once(part, ground)
    controls: tuple[Controlled, ...] = ()
    if answer.said is Said.HELD and order.with_controls:
        controls = _controls(part, ground, note)
    verdict, why = _verdict(answer, controls, part, order)
    return Result(
        contract=contract, part=part, verdict=verdict, why=why, answer=answer, controls=controls,
        with_controls=bool(part.controls) and len(controls) == len(part.controls),
        start_unix_s=start, end_unix_s=time.time(),
    )  # fmt: skip


def _hindered(contract: Contract, part: FalsificationTest | Proof, order: Order) -> Result | None:
    """A result without a run, when there can be none."""

    def not_run(why: str, *, is_pending: bool = False, is_wrong: bool = False) -> Result:
        return Result(
            contract=contract, part=part, verdict=Verdict.NOT_RUN, why=why, is_pending=is_pending, is_wrong=is_wrong
        )  # fmt: skip

    if isinstance(part, FalsificationTest):
        if part.pending is not None:
            why, is_wrong = _pending(part.pending, order)
            if why:
                return not_run(why, is_pending=not is_wrong, is_wrong=is_wrong)
        why_not = unmet(part.needs, order.means, order.project.root)
        if why_not:
            return not_run(why_not)
    if part.runner is None:
        return not_run("it names no runner", is_wrong=True)
    if order.stop.is_set():
        return not_run("pv was interrupted")
    return None


def _pending(pending: Pending, order: Order) -> tuple[str, bool]:
    """Why a pending test is not run, and whether that is an error; nothing when what it waited for is here."""
    last = day_of(pending.expires or "")
    if last is None or not pending.owner or not pending.reason:
        return "it is pending without an owner, a reason and a day", True
    if order.today > last:
        return f"it was pending until {last}, which {pending.owner} has let pass", True
    if pending.needs and unmet(pending.needs, order.means, order.project.root) is None:
        return "", False
    return f"pending until {last}: {pending.reason} ({pending.owner})", False


def _controls(
    part: FalsificationTest | Proof, ground: Ground, note: Callable[[str], None]
) -> tuple[Controlled, ...]:
    """Every control of a claim; each is run, so that all that miss are named at once."""
    done = []
    for i, control in enumerate(part.controls, 1):
        note(f"control {i} of {len(part.controls)}")
        try:
            with planted(control, ground) as defective:
                done.append(judged(control, run_once(part, defective)))
        except Unplantable as error:
            done.append(Controlled(planted=described(control), verdict=Shown.BROKEN, why=str(error)))
    return tuple(done)


def _verdict(
    answer: Answer, controls: tuple[Controlled, ...], part: FalsificationTest | Proof, order: Order
) -> tuple[Verdict, str]:
    if answer.facts.get("absent"):
        return Verdict.NOT_RUN, answer.why
    if answer.said is Said.NOTHING:
        return Verdict.NO_ANSWER, answer.why
    if answer.said is Said.FAILED:
        return Verdict.REFUTED, answer.why
    if answer.facts.get("grade") == UNCONFIRMED:
        return Verdict.NO_ANSWER, answer.why
    if not order.with_controls:
        return Verdict.SURVIVED, f"{answer.why}; its controls were not run"
    if not part.controls:
        if isinstance(part, Proof):
            return Verdict.SURVIVED, answer.why
        return Verdict.NO_ANSWER, f"{answer.why}; without a control it is not known whether it can fail"
    for shown, verdict in ((Shown.MISSED, Verdict.COULD_NOT_FAIL), (Shown.BROKEN, Verdict.NO_ANSWER)):
        for control in controls:
            if control.verdict is shown:
                prefix = "" if shown is Shown.MISSED else f"{answer.why}; its control shows nothing: "
                return verdict, f"{prefix}{control.why} ({control.planted})"
    return Verdict.SURVIVED, f"{answer.why}; caught {len(controls)} of {len(controls)} planted"
