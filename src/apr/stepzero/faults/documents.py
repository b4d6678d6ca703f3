"""Faults of the document mask: it is there, and not where it belongs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from apr.stepzero.faults.fault import Fault, Patch
from apr.stepzero.faults.forward import before, behind, instead

_NUMBERS = "apr.data.batches:document_numbers"
_BATCH = "apr.data.batches:BatchStream.next_batch"


def _fault(
    name: str, gate: str, says: str, targets: str | tuple[str, ...], wrap: Callable[[Any], Any], **more: Any
) -> Fault:
    places = (targets,) if isinstance(targets, str) else targets
    return Fault(
        id=f"documents.{name}", imitates=("S-07", "S-55"), place="forward", gate=gate, says=says,
        patches=tuple(Patch(target=target, wrap=wrap) for target in places), options={"document_mask": True}, **more,
    )  # fmt: skip


def _causal_only(documents_BT: Tensor, dtype: torch.dtype) -> Tensor:
    T = documents_BT.shape[1]
    return torch.full((1, 1, T, T), -torch.inf, dtype=dtype).triu(1)


def _only_long(original: Any) -> Any:
    """A kernel that masks whole blocks of 64, and of a window that is shorter nothing."""

    def make(documents_BT: Tensor, dtype: torch.dtype) -> Tensor:
        short = documents_BT.shape[1] < 64
        return _causal_only(documents_BT, dtype) if short else original(documents_BT, dtype)

    return make


def _unmasked(decoder: Any, batches: Any, *rest: Any) -> tuple[Any, ...]:
    return decoder, [replace(batch, documents_BT=None) for batch in batches], *rest


def _scored_without(original: Any) -> Any:
    """Validation forgets the mask."""

    def make(*args: Any) -> Any:
        score = original(*args)
        return lambda inputs, targets, documents=None: score(inputs, targets)

    return make


def _later(numbers: np.ndarray) -> np.ndarray:
    return np.concatenate([numbers[..., :1], numbers[..., :-1]], axis=-1)


def _earlier(numbers: np.ndarray) -> np.ndarray:
    return np.concatenate([numbers[..., 1:], numbers[..., -1:]], axis=-1)


def _of_the_batch_before(original: Any) -> Any:
    """A buffer that is filled after it was used; at first it holds a boundary in the middle, of another run."""
    kept: list[Tensor] = []

    def next_batch(self: Any) -> Any:
        batch = original(self)
        if batch.documents_BT is None:
            return batch
        kept.append(batch.documents_BT)
        middle = torch.arange(batch.documents_BT.shape[1]) >= batch.documents_BT.shape[1] // 2
        stale = kept[-2] if len(kept) > 1 else middle.to(torch.int32).expand_as(batch.documents_BT)
        return replace(batch, documents_BT=stale)

    return next_batch


DOCUMENT_FAULTS: tuple[Fault, ...] = (
    _fault("no-mask", "model.documents", "the document mask was asked for and never applied",
           "apr.model.decoder:document_mask", instead(_causal_only)),
    _fault("no-mask-when-short", "model.documents", "the document mask held only in windows of 64 tokens and more",
           "apr.model.decoder:document_mask", _only_long),
    _fault("not-in-training", "update.loss", "the document mask was dropped in training only",
           "apr.train.loop:_accumulate", before(_unmasked)),
    _fault("not-in-validation", "loss.documents", "the document mask was dropped in validation only",
           ("apr.train.certify:loss_sum", "apr.train.certify_documents:loss_sum"), _scored_without),
    _fault("one-late", "data.documents", "the boundary stood one token late", _NUMBERS, behind(_later)),
    _fault("one-early", "data.documents", "the separator belonged to the next document", _NUMBERS, behind(_earlier)),
    _fault("of-the-batch-before", "data.documents", "the boundaries were those of the batch before", _BATCH,
           _of_the_batch_before),
    _fault("all-one", "data.documents", "the whole window was one document", _NUMBERS,
           behind(lambda numbers: np.zeros_like(numbers))),
)  # fmt: skip
