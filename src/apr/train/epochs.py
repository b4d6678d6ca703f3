"""What happens between updates: metrics, validation, checkpoints, bounds, patience."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch

from apr.arch.config import TransformerConfig
from apr.evals.loss import EvalLoss
from apr.model.decoder import Decoder
from apr.stepzero.certificate import Certificate
from apr.stepzero.gates import FINETUNE_LOSS_LIMIT
from apr.train.checkpoint import (
    Lineage,
    facts_of,
    perplexity,
    point_to_best,
    read_best,
    write_checkpoint,
    write_state,
)
from apr.train.errors import LossDiverged
from apr.train.inputs import Inputs
from apr.train.loop import Update
from apr.train.plan import FIRST_PATIENT_EPOCH, PATIENCE_EPOCHS, RunPlan
from apr.train.reporter import Reporter, StepFigures
from apr.train.run_dir import RunDir


@dataclass(kw_only=True)
class Ledger:
    """The books of a run: what was consumed and what came out."""

    plan: RunPlan
    step0_loss: float
    start: float = field(default_factory=time.perf_counter)
    steps: int = 0
    tokens: int = 0
    train_seconds: float = 0.0
    val_losses: list[float] = field(default_factory=list)
    checkpoints: list[str] = field(default_factory=list)
    epoch_loss: float = 0.0  # token-weighted sum since the last validation
    epoch_tokens: int = 0
    epoch_grad_norm_max: float = 0.0
    best_loss: float = math.inf
    epochs_without_gain: int = 0

    def add(self, update: Update) -> StepFigures:
        """Enter an update; returns what is told about it."""
        self.steps = update.step
        self.tokens += update.num_tokens
        self.train_seconds += update.seconds
        self.epoch_loss += update.train_loss * update.num_tokens
        self.epoch_tokens += update.num_tokens
        self.epoch_grad_norm_max = max(self.epoch_grad_norm_max, update.grad_norm)
        return StepFigures(
            step=update.step,
            num_steps=self.plan.num_steps,
            train_loss=update.train_loss,
            grad_norm=update.grad_norm,
            lr=update.lr,
            tokens_per_sec=update.num_tokens / update.seconds,
            seconds_left=self.train_seconds / self.steps * (self.plan.num_steps - self.steps),
            tokens_seen=self.tokens,
        )

    @property
    def epoch(self) -> int:
        """The epoch of the last update, 1 for the first."""
        return math.ceil(self.steps / self.plan.steps_per_epoch)

    @property
    def is_epoch_end(self) -> bool:
        """Whether a validation is due."""
        return self.steps % self.plan.steps_per_epoch == 0 or self.steps == self.plan.num_steps

    @property
    def is_complete(self) -> bool:
        """Whether every update is made and validated."""
        return self.steps == self.plan.num_steps and not self.epoch_tokens

    @property
    def tokens_per_sec(self) -> float | None:
        """Mean throughput of the updates, validation left out; None before the first."""
        return self.tokens / self.train_seconds if self.train_seconds else None

    def judge(self, val_loss: float, vocab_size: int) -> None:
        """Enter a validation loss and check its bounds (INV-TRAIN-005), always fatal.

        Raises:
            LossDiverged: it is not finite, above the first limit, or more than twice the one before.
        """
        before = self.val_losses[-1] if self.val_losses else self.step0_loss
        first = FINETUNE_LOSS_LIMIT if self.plan.mode == "finetune" else 2 * math.log(vocab_size)
        limit = min(first, 2 * before) if not self.val_losses else 2 * before
        if not val_loss <= limit:  # a NaN is not below anything
            raise LossDiverged(epoch=self.epoch, value=val_loss, limit=limit)
        self.val_losses.append(val_loss)
        self.epochs_without_gain = 0 if val_loss < self.best_loss else self.epochs_without_gain + 1
        self.best_loss = min(self.best_loss, val_loss)

    @property
    def is_out_of_patience(self) -> bool:
        """Whether the validation loss has not improved for two epochs, from the third epoch on (INV-TRAIN-004)."""
        return self.epoch >= FIRST_PATIENT_EPOCH and self.epochs_without_gain >= PATIENCE_EPOCHS

    def close_epoch(self) -> tuple[float, float]:
        """Return training loss and greatest gradient norm since the last validation, and start anew."""
        train_loss, norm = self.epoch_loss / self.epoch_tokens, self.epoch_grad_norm_max
        self.epoch_loss, self.epoch_tokens, self.epoch_grad_norm_max = 0.0, 0, 0.0
        return train_loss, norm


def log_update(run_dir: RunDir, reporter: Reporter, figures: StepFigures) -> None:
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
        }
    )
    reporter.step(figures)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saver:
    """Writes the checkpoints of a run."""

    run_dir: RunDir
    inputs: Inputs
    plan: RunPlan
    certificate: Certificate
    decoder: Decoder
    optimizer: torch.optim.AdamW

    @property
    def config(self) -> TransformerConfig:
        """Of the model being trained."""
        return self.decoder.config

    def save(self, ledger: Ledger, epoch: int, cursor: int, val: EvalLoss | None) -> str:
        """Write weights, state and metadata of an epoch; returns the checkpoint's name.

        Raises:
            CannotWrite: the disk refused; the checkpoint before it is intact.
            CheckpointDiffers: what was read back is not what is in memory.
        """
        name = f"epoch-{epoch:03d}.apr"
        self.run_dir.checkpoints.mkdir(exist_ok=True)
        init = self.inputs.init
        lineage = Lineage(
            init_digest=init.file.file_digest if init else None,
            certificate_digest=self.certificate.evidence_digest,
            plan_digest=self.plan.digest,
            step=ledger.steps,
            tokens=ledger.tokens,
        )
        facts = facts_of(init.facts if init else None, self.decoder, self.inputs.tokenizer, lineage)
        digest = write_checkpoint(self.run_dir.checkpoints / name, self.decoder, facts)
        progress = {"step": ledger.steps, "epoch": epoch, "cursor": cursor, "tokens_seen": ledger.tokens}
        self.run_dir.state.mkdir(exist_ok=True)
        state_sha = write_state(self.run_dir.state, self.decoder, self.optimizer, progress)
        self.run_dir.write(
            f"ckpt/epoch-{epoch:03d}.metadata.json", self._metadata(ledger, epoch, digest, state_sha, val)
        )
        ledger.checkpoints.append(f"ckpt/{name}")
        if val is not None:
            self._point_to_best(name, epoch, val.loss)
        return name

    def _metadata(
        self, ledger: Ledger, epoch: int, digest: str, state_sha: str, val: EvalLoss | None
    ) -> dict[str, Any]:
        train_loss, norm = ledger.close_epoch() if ledger.epoch_tokens else (None, None)
        val_loss = val.loss if val else None
        return {
            "epoch": epoch,
            "step": ledger.steps,
            "train_loss": train_loss,
            "val_loss": val_loss,
            "val_standard_error": val.standard_error if val else None,
            "train_ppl": perplexity(train_loss),
            "val_ppl": perplexity(val_loss),
            "optimizer_state_sha": state_sha,
            "file_digest": digest,
            "wall_seconds": round(time.perf_counter() - ledger.start, 3),
            "tokens_seen": ledger.tokens,
            "grad_norm_max": norm,
        }

    def _point_to_best(self, name: str, epoch: int, val_loss: float) -> None:
        best = read_best(self.run_dir.path)
        if best is None or val_loss < best["val_loss"]:
            point_to_best(self.run_dir.path, name, epoch, val_loss)
