"""What step zero asks of a run with a document mask; of a run without one, nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice, pairwise

import numpy as np
import torch
from torch import Tensor

from apr.data.batches import Batch, BatchStream, evaluation_batches
from apr.data.documents import document_numbers, separator_of
from apr.data.shards import TokenDataset
from apr.evals.loss import evaluate_loss
from apr.model.adapters import hidden_states, loss_sum
from apr.model.decoder import Decoder
from apr.stepzero.behaviour import BEHAVIOUR_TOKENS, Forward
from apr.stepzero.documents import WindowDocuments, alone_gate, boundaries_gate, isolation_gate
from apr.stepzero.gate import GateResult, not_known
from apr.stepzero.registry import BY_ID
from apr.train.device import Compute
from apr.train.inputs import Inputs
from apr.train.plan import RunPlan

_BATCHES = 2  # of each role at least: boundaries of the batch before would show in the second
_MOST_BATCHES = 64  # looked through for boundaries, where documents are long


def require_separators(inputs: Inputs, plan: RunPlan) -> None:
    """Refuse a document mask over datasets that do not say where their documents end.

    Raises:
        NoSeparators.
    """
    if plan.document_mask:
        separator_of(inputs.train)
        separator_of(inputs.validation)


def trained_forward(decoder: Decoder, inputs: Inputs, plan: RunPlan, compute: Compute) -> Forward:
    """The forward pass of the run's steps, ids [B, T] to hidden states [B, T, D], with its mask if it has one."""
    if not plan.document_mask:
        return hidden_states(decoder, compute.dtype)
    separator_id = separator_of(inputs.train)

    def documents_of(ids_BT: Tensor) -> Tensor:
        return torch.from_numpy(document_numbers(ids_BT.numpy(), separator_id))

    return hidden_states(decoder, compute.dtype, documents_of)


def document_judges(
    decoder: Decoder,
    inputs: Inputs,
    plan: RunPlan,
    compute: Compute,
    stream: BatchStream,
    ids: tuple[int, ...],
) -> Iterator[Callable[[], GateResult]]:
    """The gates of a document mask, none where the run has none.

    Args:
        decoder, inputs, plan, compute: of the run.
        stream: a training stream of its own; its first batches are taken.
        ids: plausible token ids.
    """
    if not plan.document_mask:
        return
    separator_id = separator_of(inputs.train)
    yield lambda: boundaries_gate(list(_windows(inputs, plan, stream)), separator_id)
    limit = inputs.config.sequence_limit[1]
    yield lambda: isolation_gate(
        trained_forward(decoder, inputs, plan, compute),
        hidden_states(decoder, compute.dtype),
        ids[:BEHAVIOUR_TOKENS],
        separator_id,
        (min(BEHAVIOUR_TOKENS, limit), plan.seq_length),
    )
    yield lambda: _alone(decoder, inputs.validation, plan, separator_id)


def _windows(inputs: Inputs, plan: RunPlan, stream: BatchStream) -> Iterator[WindowDocuments]:
    num_planned = plan.num_steps * plan.grad_accum
    trained = (stream.next_batch() for _ in range(num_planned))
    validated = _validation_batches(inputs.validation, plan, plan.batch_size)
    for role, dataset, batches in (
        ("training", inputs.train, trained),
        ("validation", inputs.validation, validated),
    ):
        with_boundaries = 0
        for number, batch in enumerate(islice(batches, _MOST_BATCHES)):
            if number >= _BATCHES and with_boundaries >= _BATCHES:
                break
            windows = list(_of_batch(role, dataset, batch, plan.seq_length))
            with_boundaries += any(len(window.starts) for window in windows)
            yield from windows


def _of_batch(role: str, dataset: TokenDataset, batch: Batch, length: int) -> Iterator[WindowDocuments]:
    for row, index in enumerate(batch.window_indices):
        start = index * length
        stop = min(start + length, dataset.total_tokens - 1)
        low, high = np.searchsorted(dataset.document_starts, [start + 1, stop])
        yield WindowDocuments(
            role=role,
            index=index,
            found=None if batch.documents_BT is None else batch.documents_BT[row].numpy(),
            tokens=dataset.slice(start, stop),
            starts=dataset.document_starts[low:high].astype(np.int64) - start,
        )


def _validation_batches(dataset: TokenDataset, plan: RunPlan, batch_size: int) -> Iterator[Batch]:
    return evaluation_batches(dataset, plan.seq_length, batch_size, document_mask=plan.document_mask)


def _alone(decoder: Decoder, dataset: TokenDataset, plan: RunPlan, separator_id: int) -> GateResult:
    """Score the first validation window that holds a boundary as validation does, and its documents one by one.

    In fp32, whatever the run computes in: the noise of bf16 is as large as what the mask of one window may change.
    """
    score = loss_sum(decoder, torch.float32)
    for batch in _validation_batches(dataset, plan, 1):
        (window,) = _of_batch("validation", dataset, batch, plan.seq_length)
        cuts = (np.flatnonzero(window.tokens[:-1] == separator_id) + 1).tolist()
        if not cuts:
            continue
        edges = [0, *cuts, len(window.tokens)]
        parts = [slice(a, b) for a, b in pairwise(edges)]
        pieces = [(batch.inputs_BT[:, part], batch.targets_BT[:, part]) for part in parts]
        together, alone = evaluate_loss(score, [batch.scored]), evaluate_loss(score, pieces)
        return alone_gate(together.loss, alone.loss, len(parts))
    claim = BY_ID["loss.documents"].asks
    return not_known("loss.documents", claim, "no validation window holds two documents")
