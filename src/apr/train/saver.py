"""Saves of a run: checkpoint, state, metadata and pointer, each whole before the next, the state last.

What is written is a snapshot, so that the loop goes on while a thread writes. Only when the state has its name is
the save valid; a kill before that leaves the one before, and what was written of this one is written again, to the
byte, when the resumed run comes to the same step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from apr.aprfile.metadata import ModelFacts
from apr.evals.loss import EvalLoss
from apr.model.decoder import Decoder
from apr.model.lora import base_parameters, replaced, to_peft
from apr.train.background import Background
from apr.train.certify_subset import require_frozen
from apr.train.checkpoint import (
    Lineage,
    best_of,
    facts_of,
    perplexity,
    point_to_best,
    proof_ids,
    write_checkpoint,
)
from apr.train.inputs import Inputs
from apr.train.ledger import Ledger
from apr.train.merge import Merge, merge_for_saving, write_adapter
from apr.train.plan import RunPlan
from apr.train.run_dir import RunDir
from apr.train.run_state import RunState, adapter_folder, forget
from apr.train.state import moment_tensors, write_state
from apr.train.subset import Subset, trained_parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class _Snapshot:
    """Everything that one save writes, as it was between two steps."""

    parameters: Mapping[str, Tensor]
    adapters: Mapping[str, Tensor]  # named as in their file; none without LoRA
    merge: Merge | None
    moments: Mapping[str, Tensor]
    facts: ModelFacts
    state: RunState  # without what only the written files tell
    metadata: dict[str, Any] | None  # of the epoch; None between two epochs
    best: tuple[str, int, float] | None  # checkpoint, epoch and loss of the best validation so far


@dataclass(kw_only=True)
class Saver:
    """Makes the saves of a run, in the background unless asked otherwise."""

    run_dir: RunDir
    inputs: Inputs
    plan: RunPlan
    lineage: Lineage  # of the start; step and tokens are filled in
    decoder: Decoder
    optimizer: torch.optim.AdamW
    subset: Subset
    frozen: Mapping[str, str]  # sha256 of what is not trained, by name
    committed: list[str] = field(default_factory=list)  # checkpoints that are whole
    last_step: int = 0  # of the last whole state; 0 for none
    background: Background = field(default_factory=Background)

    def save_epoch(self, ledger: Ledger, cursor: int, val: EvalLoss | None, noise: float = 0.0) -> None:
        """Save the end of an epoch: checkpoint, metadata, pointer to the best, state.

        Raises:
            CannotWrite: the disk refused this save or the one before it; the last whole one is intact.
            CheckpointDiffers: what was read back is not what is in memory.
        """
        name = f"ckpt/epoch-{ledger.epoch:03d}.apr"
        metadata = _metadata(ledger, val, noise)
        if name not in ledger.checkpoints:
            ledger.checkpoints.append(name)
        if not self.run_dir.writes:  # another process does; its word ends the run if it cannot
            self.committed.append(name)
            self.last_step = ledger.steps
            return
        snapshot = self._snapshot(ledger, cursor, name, metadata, _best(ledger, val))
        self.background.start(lambda: self._write(snapshot))
        if self.plan.save == "blocking":
            self.background.finish()

    def save_between(self, ledger: Ledger, cursor: int) -> None:
        """Save a state between two epochs, with its own copy of the weights, and wait until it is there."""
        self.background.finish()
        if ledger.steps > self.last_step and not self.run_dir.writes:
            self.last_step = ledger.steps
        elif ledger.steps > self.last_step:
            self._write(self._snapshot(ledger, cursor, "", None, None))

    def _snapshot(
        self,
        ledger: Ledger,
        cursor: int,
        weights: str,
        metadata: dict[str, Any] | None,
        best: tuple[str, int, float] | None,
    ) -> _Snapshot:
        trained = dict(trained_parameters(self.decoder, self.subset))
        moments = moment_tensors(trained, self.optimizer)
        if metadata is not None and self.plan.save == "background":
            self.background.finish()  # one snapshot in memory at a time
            moments = {name: value.clone() for name, value in moments.items()}
            trained = {name: value.detach().clone() for name, value in trained.items()}
        merge = self._merge(ledger.steps)
        # What is frozen needs no copy, and what is merged is one.
        made = trained if merge is None else merge.weights
        named = {name: made.get(name, value) for name, value in base_parameters(self.decoder).items()}
        lineage = replace(self.lineage, step=ledger.steps, tokens=ledger.tokens)
        num_bytes, sha256 = self.run_dir.metrics_mark()
        return _Snapshot(
            parameters=named,
            adapters=to_peft(trained) if merge else {},
            merge=merge,
            moments=moments,
            facts=self._facts(lineage, merge),
            state=RunState(
                step=ledger.steps,
                epoch=ledger.epoch,
                cursor=cursor,
                tokens_seen=ledger.tokens,
                weights=weights,
                weights_digest="",
                optimizer_state_sha="",
                torch_rng=torch.get_rng_state().numpy().tobytes().hex(),
                metrics_bytes=num_bytes,
                metrics_sha256=sha256,
                books=ledger.to_books(),
            ),
            metadata=metadata,
            best=best,
        )

    def _merge(self, step: int) -> Merge | None:
        if self.subset.lora is None:
            return None
        ids = proof_ids(self.decoder.config, self.inputs.tokenizer)
        return merge_for_saving(self.decoder, self.subset.lora, ids, step)

    def _facts(self, lineage: Lineage, merge: Merge | None) -> ModelFacts:
        """Describe a checkpoint; its reference is that of the weights it holds."""
        base = self.inputs.init.facts if self.inputs.init else None
        with replaced(self.decoder, merge.weights if merge else {}):
            return facts_of(base, self.decoder, self.inputs.tokenizer, lineage)

    def _write(self, made: _Snapshot) -> None:
        run_dir, state = self.run_dir.path, made.state

        def write_weights(path: Path) -> str:
            return write_checkpoint(path, made.parameters, made.facts)

        require_frozen(self.frozen, base_parameters(self.decoder), state.step)
        if made.metadata is None:
            write_state(run_dir, state, made.moments, write_weights=write_weights, adapters=made.adapters)
        else:
            self.run_dir.checkpoints.mkdir(exist_ok=True)
            state = replace(state, weights_digest=write_weights(run_dir / state.weights))
            write_state(
                run_dir,
                state,
                made.moments,
                before_commit=lambda done: self._describe(made, done),
                adapters=made.adapters,
            )
            self.committed.append(state.weights)
        self.last_step = state.step
        forget(run_dir, self.plan.keep, made.best[0] if made.best else None)

    def _describe(self, made: _Snapshot, state: RunState) -> None:
        digests: dict[str, Any] = {
            "optimizer_state_sha": state.optimizer_state_sha,
            "file_digest": state.weights_digest,
        }
        if made.merge is not None:
            folder = self.run_dir.path / adapter_folder(state.weights)
            digests["merge"] = {
                **made.merge.proof.to_dict(),
                "lora": str(made.merge.lora),
                "base_digest": self.lineage.init_digest,
                "adapter_sha": write_adapter(folder, made.adapters, made.merge.lora),
            }
        name = f"{state.weights.removesuffix('.apr')}.metadata.json"
        self.run_dir.write(name, {**(made.metadata or {}), **digests})
        if made.best is not None:
            point_to_best(self.run_dir.path, *made.best)


def _best(ledger: Ledger, val: EvalLoss | None) -> tuple[str, int, float] | None:
    if not ledger.val_losses and val is not None:  # a run without steps: its one checkpoint is the start
        return ledger.checkpoints[0], 0, val.loss
    return best_of(ledger.to_books())


def _metadata(ledger: Ledger, val: EvalLoss | None, noise: float) -> dict[str, Any]:
    train_loss, norm = ledger.close_epoch() if ledger.epoch_tokens else (None, None)
    val_loss = val.loss if val else None
    return {
        "epoch": ledger.epoch,
        "step": ledger.steps,
        "train_loss": train_loss,
        "val_loss": val_loss,
        "val_standard_error": val.standard_error if val else None,
        "val_gain_noise": noise if val else None,
        "train_ppl": perplexity(train_loss),
        "val_ppl": perplexity(val_loss),
        "wall_seconds": round(ledger.wall_seconds, 3),
        "tokens_seen": ledger.tokens,
        "grad_norm_max": norm,
    }
