"""Checkpoints: weights as `.apr`, read back and compared; the optimizer's state beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from apr import __version__
from apr.aprfile.metadata import ModelFacts, model_metadata
from apr.aprfile.reader import open_apr
from apr.aprfile.writer import TensorSource, write_apr
from apr.arch.config import TransformerConfig
from apr.arch.inventory import EMBEDDING, HEAD
from apr.base.files import write_json
from apr.model.adapters import tracer
from apr.model.decoder import Decoder
from apr.stepzero.probe import plain_probe_ids, probe_ids
from apr.stepzero.reference import record
from apr.tokenizer.definition import TokenizerDefinition
from apr.tokenizer.engine import TextTokenizer
from apr.train.errors import CheckpointDiffers


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Where a checkpoint comes from: digests and counts, no times and no paths, so that it is reproducible."""

    init_digest: str | None
    certificate_digest: str  # the certificate's evidence digest
    plan_digest: str
    step: int
    tokens: int

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}


def write_checkpoint(path: Path, parameters: Mapping[str, Tensor], facts: ModelFacts) -> str:
    """Write the fp32 master weights with what describes them, and prove that the file holds them.

    Args:
        path: the file.
        parameters: by name, each storage once.
        facts: what describes them.

    Returns:
        The digest of the file.

    Raises:
        CannotWrite: the disk refused; nothing is left at `path`.
        CheckpointDiffers: a tensor read back is not what is in memory (INV-TRAIN-013).
    """
    sources = [
        TensorSource(name=name, dtype="F32", shape=tuple(value.shape), produce=_producer(value))
        for name, value in parameters.items()
    ]
    aliases = {HEAD: EMBEDDING} if facts.config.tie_word_embeddings else {}
    written = write_apr(path, model_metadata(facts), sources, aliases)
    with open_apr(path, "structure") as file:
        for name, value in parameters.items():
            if not np.array_equal(file.array(name).view(np.uint32), _bits(value)):
                raise CheckpointDiffers(path=str(path), tensor=name)
    return written.file_digest


def _producer(value: Tensor) -> Any:
    return lambda: value.detach().cpu().contiguous().numpy()


def _bits(value: Tensor) -> np.ndarray:
    bits: np.ndarray = value.detach().cpu().contiguous().numpy().view(np.uint32)
    return bits


def facts_of(
    base: ModelFacts | None, decoder: Decoder, tokenizer: TokenizerDefinition | None, lineage: Lineage
) -> ModelFacts:
    """Describe a checkpoint of a run: config and tokenizer as they were, and a reference of these weights.

    New weights have no independent reference, so we record our own (grade B): a later --init of this file must
    give the same figures. Before the first step the weights are still the source's, and so is their reference.
    """
    kept = base.reference if base is not None and lineage.step == 0 else None
    reference = kept or _own_reference(decoder, tokenizer)
    return ModelFacts(
        config=decoder.config,
        tokenizer_json=tokenizer.json_text if tokenizer else None,
        tokenizer=tokenizer.to_dict() if tokenizer else None,
        sources=base.sources if base else (),
        tie=base.tie if base else None,
        accepted=base.accepted if base else (),
        reference=reference,
        producer={"name": "apr pretrain", "version": __version__},
        lineage=lineage.to_dict(),
    )


def proof_ids(config: TransformerConfig, tokenizer: TokenizerDefinition | None) -> Sequence[int]:
    """Token ids of the probe, by the tokenizer where there is one."""
    _, limit = config.sequence_limit
    if tokenizer is None:
        return plain_probe_ids(config.vocab_size, limit)
    return probe_ids(TextTokenizer(tokenizer), limit)


def _own_reference(decoder: Decoder, tokenizer: TokenizerDefinition | None) -> dict[str, Any]:
    ids = proof_ids(decoder.config, tokenizer)
    return record(tracer(decoder), ids, grade="B", oracle=f"apr {__version__}, fp32").to_dict()


def perplexity(loss: float | None) -> float | None:
    """exp(loss) where it is known and finite."""
    return math.exp(loss) if loss is not None and loss < 700 else None


def point_to_best(run_dir: Path, name: str, epoch: int, val_loss: float) -> None:
    """Write which checkpoint has the lowest validation loss."""
    write_json(run_dir / "best.json", {"checkpoint": name, "epoch": epoch, "val_loss": val_loss})


def best_of(books: Mapping[str, Any]) -> tuple[str, int, float] | None:
    """The checkpoint with the lowest validation loss, by a ledger's books: (name, epoch, nats); None without any."""
    losses = books["val_losses"]
    if not losses:
        return None
    lowest = min(range(len(losses)), key=losses.__getitem__)
    return books["checkpoints"][lowest], lowest + 1, losses[lowest]
