"""What a loop that is not ours consists of, and what is known of its weights from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from apr.aprfile.metadata import ModelFacts, read_facts
from apr.aprfile.reader import open_apr
from apr.stepzero.guard_batches import LoopBatch
from apr.stepzero.guard_optimizer import Planned
from apr.stepzero.guard_weights import FileEvidence, file_evidence
from apr.stepzero.reference import Reference, parse_reference

Encode = Callable[[str], Sequence[int]]  # text -> ids, without special ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of the weights from elsewhere."""

    evidence: FileEvidence | None = None
    facts: ModelFacts | None = None
    reference: Reference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """What the loop is made of, as it will be used."""

    module: nn.Module
    forward: Callable[[Tensor], Tensor]
    forward_fp32: Callable[[Tensor], Tensor] | None
    optimizer: torch.optim.Optimizer
    loss: Callable[[LoopBatch], Tensor]
    is_own_loss: bool
    batches: tuple[LoopBatch, ...]
    blocks: Mapping[str, nn.Module]
    encode: Encode | None
    labels_shifted: bool
    planned: Planned
    parameters: dict[str, Tensor]

    @property
    def is_plain(self) -> bool:
        """Whether the ids alone say what is computed of every batch."""
        return all(batch.is_plain for batch in self.batches)


def open_known(stack: ExitStack, reference: str | Path | Reference | None) -> Known:
    """Open the file, which stays open as long as the stack; a reference alone is taken as it is.

    Raises:
        AprError: the file cannot be read, or is damaged.
    """
    if reference is None or isinstance(reference, Reference):
        return Known(reference=reference)
    path = Path(reference)
    file = stack.enter_context(open_apr(path, "full"))
    facts = read_facts(file)
    recorded = facts.reference
    return Known(
        evidence=file_evidence(file, facts),
        facts=facts,
        reference=parse_reference(recorded, str(path), facts.config.vocab_size) if recorded else None,
    )
