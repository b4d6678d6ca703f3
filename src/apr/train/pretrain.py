"""`apr pretrain`: inputs, plan, step zero, loop, record."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

from apr.base.environment import available_memory_bytes, keep_freed_memory
from apr.base.errors import AprError, CannotWrite, Interrupted
from apr.stepzero.certificate import Certificate
from apr.stepzero.errors import StepZeroIncomplete, StepZeroRefused
from apr.stepzero.gate import spelled
from apr.train.certify import StepZero, certify, validation_loss
from apr.train.device import Compute, check_device_word, resolve_compute
from apr.train.epochs import Ledger, Saver, log_update
from apr.train.errors import LossDiverged, NotEnoughMemory, NotFinite, TokensMiscounted
from apr.train.inputs import Inputs
from apr.train.loop import updates
from apr.train.plan import RunPlan, check_fit, plan_warnings, required_memory_bytes, resolve
from apr.train.reporter import Reporter
from apr.train.run_dir import RunDir
from apr.train.spec import RunSpec
from apr.train.synthetic import run_synthetic


def pretrain(spec: RunSpec, reporter: Reporter) -> dict[str, Any]:
    """Run what was asked.

    Returns:
        The record: {outcome, steps, certificate, final_val_loss, tokens_per_sec, checkpoints, ...}.

    Raises:
        AprError: the run was refused or ended badly; where a run directory exists, its record says so too.
    """
    plan = resolve(spec)
    check_device_word(plan.device)
    if plan.synthetic:
        with RunDir(spec.run_dir) as run_dir:
            return run_synthetic(plan, run_dir, reporter)
    compute = resolve_compute(plan.device, plan.dtype)
    keep_freed_memory()
    with Inputs(spec, reporter) as inputs:
        check_fit(
            plan,
            inputs.config,
            dataset=str(spec.dataset),
            available_windows=inputs.count_windows(plan.seq_length),
        )
        _require_memory(inputs, plan, compute)
        with RunDir(spec.run_dir) as run_dir:
            run = _Run(
                spec=spec, plan=plan, compute=compute, inputs=inputs, run_dir=run_dir, reporter=reporter
            )
            return run.carry_out()


def _require_memory(inputs: Inputs, plan: RunPlan, compute: Compute) -> None:
    if compute.device.type != "cpu":
        return
    needed = required_memory_bytes(plan, inputs.config, compute.dtype_name)
    available = available_memory_bytes()
    if available is not None and needed > available:
        raise NotEnoughMemory(needed_mb=needed >> 20, available_mb=available >> 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """A run with everything it needs, inside its directory."""

    spec: RunSpec
    plan: RunPlan
    compute: Compute
    inputs: Inputs
    run_dir: RunDir
    reporter: Reporter

    def carry_out(self) -> dict[str, Any]:
        """Judge, train, record; whatever ends the run, the record says so."""
        self.run_dir.write("plan.json", self.plan.to_dict())
        for text in (self.compute.note, *plan_warnings(self.spec, self.plan)):
            if text:
                self._say(text)
        ledger = Ledger(plan=self.plan, step0_loss=float("nan"))
        certificate: Certificate | None = None
        try:
            with _terminable():
                zero = certify(self.inputs, self.plan, self.compute, self.reporter)
            certificate = zero.certificate
            if zero.step0 is not None:
                ledger.step0_loss = zero.step0.loss
            self.run_dir.write("certificate.json", certificate.to_dict())
            self.reporter.certificate(certificate)
            self._require_passed(certificate)
            outcome = self._train(zero, ledger)
        except KeyboardInterrupt:
            self._record("INTERRUPTED", ledger, certificate, None)
            raise Interrupted(signal="Ctrl-C or SIGTERM", kept=_kept(ledger)) from None
        except AprError as error:
            # On a full disk the record fails too; the first error is the one to hear.
            with suppress(CannotWrite):
                self._record(_outcome_of(error), ledger, certificate, error)
            raise
        record = self._record(outcome, ledger, certificate, None)
        if outcome == "INTERRUPTED":
            raise Interrupted(signal="Ctrl-C or SIGTERM", kept=_kept(ledger))
        return record

    def _say(self, text: str) -> None:
        self.run_dir.log(text)
        self.reporter.note(text)

    def _require_passed(self, certificate: Certificate) -> None:
        gate = certificate.first_refusal
        if gate is not None:
            raise StepZeroRefused(
                gate=gate.id,
                cause=gate.cause or f"it is not so that {gate.claim}",
                figure=spelled(gate.figure),
                limit=spelled(gate.limit),
            )
        if certificate.not_judged:
            raise StepZeroIncomplete(gates=", ".join(certificate.not_judged))

    def _train(self, zero: StepZero, ledger: Ledger) -> str:
        """Make the updates; returns the terminal word."""
        saver = Saver(
            run_dir=self.run_dir,
            inputs=self.inputs,
            plan=self.plan,
            certificate=zero.certificate,
            decoder=zero.decoder,
            optimizer=zero.optimizer,
        )
        if self.plan.num_steps == 0:
            saver.save(ledger, 0, 0, zero.step0)
            return "BUDGET_DONE"  # of no step: the target is a word for what training reached
        stream = zero.stream
        with _interruptions() as interrupted:
            steps = updates(zero.decoder, zero.optimizer, stream, self.plan, self.compute, interrupted)
            for update in steps:
                log_update(self.run_dir, self.reporter, ledger.add(update))
                if ledger.is_epoch_end and not interrupted():
                    self._close_epoch(zero, ledger, saver, stream.cursor)
                    if ledger.is_out_of_patience and ledger.steps < self.plan.num_steps:
                        return "EARLY_STOP"
            if interrupted() and not ledger.is_complete:
                if ledger.epoch_tokens:  # else the last epoch's checkpoint, which was validated, says it all
                    saver.save(ledger, ledger.epoch, stream.cursor, None)
                return "INTERRUPTED"
        self._require_all_consumed(stream.cursor)
        return self._word(ledger.val_losses[-1])

    def _close_epoch(self, zero: StepZero, ledger: Ledger, saver: Saver, cursor: int) -> None:
        validation = self.inputs.validation
        val = validation_loss(
            zero.decoder, validation, self.plan, self.compute, self.reporter, self.plan.val_tokens
        )
        self.run_dir.log(
            f"epoch {ledger.epoch}: validation loss {val.loss:.4f} nats after step {ledger.steps}"
        )
        self.reporter.validation(ledger.epoch, val.loss, val.standard_error)
        ledger.judge(val.loss, self.inputs.config.vocab_size)
        saver.save(ledger, ledger.epoch, cursor, val)

    def _require_all_consumed(self, cursor: int) -> None:
        """INV-TRAIN-012: windows planned are windows consumed."""
        if cursor != self.plan.num_windows:
            length = self.plan.seq_length
            raise TokensMiscounted(planned=self.plan.num_windows * length, consumed=cursor * length)

    def _word(self, val_loss: float) -> str:
        """The target names the outcome; it does not end a run early, since exactly N steps were asked for."""
        return "TARGET_MET" if val_loss <= self.plan.target_val_loss else "BUDGET_DONE"

    def _record(
        self, outcome: str, ledger: Ledger, certificate: Certificate | None, error: AprError | None
    ) -> dict[str, Any]:
        document = certificate.to_dict() if certificate else None
        record = {
            "format": "apr-record-1",
            "outcome": outcome,
            "steps": ledger.steps,
            "tokens": ledger.tokens,
            "certificate": {key: document[key] for key in ("grade", "verdict", "gates", "step0", "digest")}
            if document
            else None,
            "final_val_loss": ledger.val_losses[-1] if ledger.val_losses else None,
            "tokens_per_sec": ledger.tokens_per_sec,
            "checkpoints": list(ledger.checkpoints),
            "error": {"id": error.id, "message": error.message, "help": error.advice} if error else None,
        }
        self.run_dir.write("record.json", record)
        self.run_dir.log(f"{outcome} after {ledger.steps} steps" + (f": {error}" if error else ""))
        return record


def _kept(ledger: Ledger) -> str:
    if not ledger.steps:
        return "no step was taken, and the record says INTERRUPTED"
    if not ledger.checkpoints:
        return f"none of the {ledger.steps} steps is kept, and the record says INTERRUPTED"
    return f"{ledger.steps} steps are kept in {ledger.checkpoints[-1]}, and the record says INTERRUPTED"


def _outcome_of(error: AprError) -> str:
    return "DIVERGED" if isinstance(error, NotFinite | LossDiverged) else "REFUSED"


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, with a record, instead of killing the process."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handling(handle, signal.SIGTERM):
        yield


@contextmanager
def _handling(handle: Callable[[int, FrameType | None], None], *numbers: signal.Signals) -> Iterator[None]:
    try:
        previous = {number: signal.signal(number, handle) for number in numbers}
    except ValueError:  # not the main thread: whoever owns the signals decides
        previous = {}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _interruptions() -> Iterator[Any]:
    """Turn the first Ctrl-C or SIGTERM into a question that the loop asks between steps; a second one stops at once."""
    asked = False

    def answer() -> bool:
        return asked

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    with _handling(handle, signal.SIGINT, signal.SIGTERM):
        yield answer
