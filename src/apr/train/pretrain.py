"""`apr pretrain`: inputs, plan, step zero, loop, record."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from apr.base.environment import keep_freed_memory
from apr.base.errors import AprError, BadOption, CannotWrite, Interrupted
from apr.model.decoder import Decoder
from apr.stepzero.certificate import Certificate
from apr.stepzero.errors import StepZeroIncomplete, StepZeroRefused
from apr.stepzero.gate import spelled
from apr.train.books import Books
from apr.train.certify import StepZero, certify, validation_loss
from apr.train.certify_documents import require_separators
from apr.train.certify_resume import certify_resumed
from apr.train.checkpoint import Lineage
from apr.train.device import Compute, check_device_word, resolve_compute
from apr.train.errors import LossDiverged, NotFinite, RanksUneven, SpikeFound, TokensMiscounted
from apr.train.fit import require_memory
from apr.train.inputs import Inputs
from apr.train.interruptions import interruptions, terminable
from apr.train.ledger import Ledger
from apr.train.log_reporter import Loggers
from apr.train.loggers import checked_loggers
from apr.train.loop import updates
from apr.train.plan import RunPlan, check_fit, plan_warnings, resolve
from apr.train.ranks import Ranks, joined, weights_fingerprint
from apr.train.reporter import Reporter, StepFigures
from apr.train.resume import (
    INPUTS,
    Resumption,
    open_resumption,
    record_inputs,
    require_lineage,
    rewind,
    spec_of_state,
)
from apr.train.run_dir import Onlooker, RunDir
from apr.train.run_state import RunState
from apr.train.saver import Saver
from apr.train.spec import RunSpec
from apr.train.spikes import Spike, skipped_line, skipped_sentence, spikes_of
from apr.train.subset import subset_of
from apr.train.synthetic import run_synthetic

_HURRY_S = 1.0  # that a second Ctrl-C waits for a logger


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
                return _Run(
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
        _require_fit(inputs, plan, compute, spec)
        if ranks.is_first:
            rewind(run_dir, state)
        if state is None:  # it begins again, from what is given now
            run_dir.write(INPUTS, record_inputs(spec))
        return _Run(
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """A run with everything it needs, inside its directory."""

    spec: RunSpec
    plan: RunPlan
    compute: Compute
    inputs: Inputs
    run_dir: RunDir
    reporter: Loggers
    resumption: Resumption | None = None

    @property
    def state(self) -> RunState | None:
        """Where the run stood, if it goes on from anywhere but its start."""
        return self.resumption.state if self.resumption else None

    def carry_out(self) -> dict[str, Any]:
        """Judge, train, record; whatever ends the run, the record says so."""
        notes = subset_of(self.plan, self.inputs.config).notes
        for text in (self.compute.note, *plan_warnings(self.spec, self.plan), *notes, self._going_on()):
            if text:
                self._say(text)
        ledger = Ledger(plan=self.plan, step0_loss=float("nan"))
        if self.state is not None:
            ledger = Ledger.from_books(self.plan, self.state.books)
        books = Books(ledger=ledger)
        try:
            with terminable():
                zero = self._certify(books)
            self._require_passed(zero.certificate)
            self._require_same_weights(zero.decoder)
            outcome = self._train(zero, books)
        except KeyboardInterrupt:
            self.reporter.close(_HURRY_S)
            self._record("INTERRUPTED", books, None)
            raise Interrupted(signal="Ctrl-C or SIGTERM", kept=books.kept) from None
        except AprError as error:
            with suppress(AprError):  # the save before this step is good, if it comes to its end
                books.finish()
            # On a full disk the record fails too; the first error is the one to hear.
            with suppress(CannotWrite):
                self._record(_outcome_of(error), books, error)
            raise
        record = self._record(outcome, books, None)
        if outcome == "INTERRUPTED":
            raise Interrupted(signal="Ctrl-C or SIGTERM", kept=books.kept)
        return record

    def _going_on(self) -> str:
        if self.resumption is None:
            return ""
        if self.state is None:
            return "nothing was saved yet: the run begins again at step 1"
        return f"the run goes on after step {self.state.step:,} of {self.plan.num_steps:,}"

    def _certify(self, books: Books) -> StepZero:
        """Judge the start, or the state that is gone on from."""
        inputs, plan, compute = self.inputs, self.plan, self.compute
        if self.resumption is None or self.state is None:
            zero = certify(inputs, plan, compute, self.reporter)
            books.certificate = zero.certificate.to_dict()
            if zero.step0 is not None:
                books.ledger.step0_loss = zero.step0.loss
            self.run_dir.write("certificate.json", books.certificate)
        else:
            books.certificate = self.resumption.certificate
            books.saved(self.state)
            zero = certify_resumed(inputs, plan, compute, self.reporter, self.resumption)
            number = len(list(self.run_dir.path.glob("resumes/*.json"))) + 1
            self.run_dir.write(f"resumes/{number:03d}.json", zero.certificate.to_dict())
        self.reporter.certificate(zero.certificate)
        return zero

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

    def _require_same_weights(self, decoder: Decoder) -> None:
        """Every process of the run computes with the same weights, inputs and plan."""
        ranks = self.compute.ranks
        if ranks.num > 1:
            inputs = {f"{name} digest": str(digest) for name, digest in self.inputs.digests.items()}
            weights = weights_fingerprint(dict(decoder.named_parameters()))
            ranks.require_same({"plan digest": self.plan.digest, **inputs, "sum of the weights": weights})

    def _train(self, zero: StepZero, books: Books) -> str:
        """Make the updates; returns the terminal word."""
        ledger = books.ledger
        saver = books.saver = Saver(
            run_dir=self.run_dir,
            inputs=self.inputs,
            plan=self.plan,
            lineage=self._lineage(books),
            decoder=zero.decoder,
            optimizer=zero.optimizer,
            subset=subset_of(self.plan, self.inputs.config),
            frozen=zero.frozen,
            committed=list(books.committed),
            last_step=books.kept_steps,
        )
        if self.plan.num_steps == 0:
            saver.save_epoch(ledger, 0, zero.step0)
            saver.background.finish()
            return "BUDGET_DONE"  # of no step: the target is a word for what training reached
        self.reporter.start(ledger.steps)
        with interruptions() as interrupted:
            # Every process asks at the same places, and hears the same answer.
            word = self._make_updates(zero, ledger, saver, lambda: self.compute.ranks.any(interrupted()))
            saver.background.finish()
        return word

    def _make_updates(
        self, zero: StepZero, ledger: Ledger, saver: Saver, interrupted: Callable[[], bool]
    ) -> str:
        stream = zero.stream
        # The process before was stopped between the epoch's last step and its validation.
        if ledger.epoch_tokens and ledger.is_epoch_end:
            self._close_epoch(zero, ledger, saver, stream.cursor)
        first = ledger.steps + 1

        def judge(step: int, train_loss: float, grad_norm: float) -> Spike | None:
            return ledger.trail.judge(
                step, train_loss, grad_norm
            )  # the trail of now: it grows with every step

        steps = updates(
            *(zero.decoder, zero.optimizer, stream, self.plan, self.compute, interrupted, first, judge)
        )
        while not ledger.has_ended_early:
            update = next(steps, None)
            if update is None:
                break
            _log_update(self.run_dir, self.reporter, ledger.add(update))
            saver.background.check()
            if ledger.is_epoch_end and not interrupted():
                self._close_epoch(zero, ledger, saver, stream.cursor)
        if ledger.has_ended_early:
            return "EARLY_STOP"
        if not ledger.is_complete and interrupted():
            saver.save_between(ledger, stream.cursor)
            return "INTERRUPTED"
        self._require_all_consumed(stream.cursor)
        return self._word(ledger.val_losses[-1])

    def _lineage(self, books: Books) -> Lineage:
        assert books.certificate is not None
        return Lineage(
            init_digest=books.certificate["inputs"]["init"],
            certificate_digest=books.certificate["evidence_digest"],
            plan_digest=self.plan.digest,
            step=0,
            tokens=0,
        )

    def _close_epoch(self, zero: StepZero, ledger: Ledger, saver: Saver, cursor: int) -> None:
        self._require_same_weights(zero.decoder)
        validation = self.inputs.validation
        val = validation_loss(
            zero.decoder, validation, self.plan, self.compute, self.reporter, self.plan.val_tokens
        )
        self.run_dir.log(
            f"epoch {ledger.epoch}: validation loss {val.loss:.4f} nats after step {ledger.steps}"
        )
        self.reporter.validation(ledger.epoch, val.loss, val.standard_error)
        noise = ledger.judge(val.loss, self.inputs.config.vocab_size, val.sums, val.num_tokens)
        saver.save_epoch(ledger, cursor, val, noise)

    def _require_all_consumed(self, cursor: int) -> None:
        """INV-TRAIN-012: windows planned are windows consumed."""
        if cursor != self.plan.num_windows:
            length = self.plan.seq_length
            raise TokensMiscounted(planned=self.plan.num_windows * length, consumed=cursor * length)

    def _word(self, val_loss: float) -> str:
        """The target names the outcome; it does not end a run early, since exactly N steps were asked for."""
        return "TARGET_MET" if val_loss <= self.plan.target_val_loss else "BUDGET_DONE"

    def _record(self, outcome: str, books: Books, error: AprError | None) -> dict[str, Any]:
        self.reporter.close()
        ledger, document = books.ledger, books.certificate
        removed = [name for name in books.committed if not (self.run_dir.path / name).is_file()]
        record = {
            "format": "apr-record-1",
            "outcome": outcome,
            "steps": ledger.steps,
            "tokens": ledger.tokens,
            "certificate": {key: document[key] for key in ("grade", "verdict", "gates", "step0", "digest")}
            if document
            else None,
            "final_val_loss": books.final_val_loss,
            "tokens_per_sec": ledger.tokens_per_sec,
            "checkpoints": list(books.committed),
            "removed": removed,
            "spikes": spikes_of(ledger.trail, error),
            "loggers": self.reporter.to_record(),
            "error": {"id": error.id, "message": error.message, "help": error.advice} if error else None,
        }
        self.run_dir.write("record.json", record)
        self.run_dir.log(f"{outcome} after {ledger.steps} steps" + (f": {error}" if error else ""))
        return record


def _log_update(run_dir: RunDir, reporter: Reporter, figures: StepFigures) -> None:
    """Write the line of metrics.jsonl and tell the listener."""
    run_dir.append_metrics(
        {
            "step": figures.step,
            "train_loss": figures.train_loss,
            "grad_norm": figures.grad_norm,
            "lr": figures.lr,
            "tokens_per_sec": figures.tokens_per_sec,
            "gpu_util_pct": None,  # not measured, so not given
            "tokens_seen": figures.tokens_seen,
            **skipped_line(figures.spike),
        }
    )
    reporter.step(figures)
    if figures.spike is not None:
        reporter.note(said := skipped_sentence(figures.spike))
        run_dir.log(said)


def _outcome_of(error: AprError) -> str:
    if isinstance(error, SpikeFound):
        return "SPIKE"
    return "DIVERGED" if isinstance(error, NotFinite | LossDiverged) else "REFUSED"
