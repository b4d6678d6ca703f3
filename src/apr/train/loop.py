"""The loop: exactly N updates, each from the tokens that the plan names, with nothing invented on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from apr.data.batches import Batch, BatchStream
from apr.model.decoder import Decoder
from apr.model.loss import next_token_loss
from apr.train.device import Compute
from apr.train.errors import NotFinite, WindowsMisdealt
from apr.train.optimizer import read_learning_rate, set_learning_rate
from apr.train.plan import RunPlan
from apr.train.spikes import Spike


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One optimizer step as it happened."""

    step: int  # 1 for the first
    train_loss: float  # nats per token over the whole step, before the update
    grad_norm: float  # global norm before clipping
    lr: float  # read back from the optimizer
    num_tokens: int  # targets
    seconds: float
    spike: Spike | None = None  # why the update was left out; None where it was made


# Asked with (step, training loss, gradient norm) before an update is made; a spike leaves it out.
Judge = Callable[[int, float, float], Spike | None]


def no_judge(step: int, train_loss: float, grad_norm: float) -> Spike | None:
    """Leave no update out."""
    return None


def updates(
    decoder: Decoder,
    optimizer: torch.optim.AdamW,
    stream: BatchStream,
    plan: RunPlan,
    compute: Compute,
    should_stop: Callable[[], bool],
    first_step: int = 1,
    judge: Judge = no_judge,
) -> Iterator[Update]:
    """Make the plan's updates, one an iteration.

    Args:
        decoder: fp32 master weights; computed with in `compute.dtype`.
        optimizer: over the decoder's parameters; fresh, or as it was saved.
        stream: gives one micro-batch a call.
        plan: what was resolved.
        compute: where and in what type.
        should_stop: asked before each update; an interruption ends the run between two of them.
        first_step: 1, or the one after the state that the run goes on from.
        judge: may leave an update out, or end the run before it.

    Raises:
        NotFinite: loss or gradient is NaN or infinite; raised before the update is made.
        WindowsMisdealt: several processes did not take the step's windows once each.
        SpikeFound: the judge ended the run.
    """
    ranks = compute.ranks
    for step in range(first_step, plan.num_steps + 1):
        if should_stop():
            return
        start = time.perf_counter()
        planned = stream.planned_windows(plan.grad_accum)
        batches = stream.next_step(plan.grad_accum, ranks.place.rank, ranks.num)
        taken = [index for batch in batches for index in batch.window_indices]
        if not ranks.have_shared(planned.tolist(), taken):
            raise WindowsMisdealt(step=step, num_ranks=ranks.num)
        update = make_update(decoder, optimizer, batches, step, plan, compute, judge)
        yield replace(update, seconds=time.perf_counter() - start)


def make_update(
    decoder: Decoder,
    optimizer: torch.optim.AdamW,
    batches: Sequence[Batch],
    step: int,
    plan: RunPlan,
    compute: Compute,
    judge: Judge = no_judge,
) -> Update:
    """Make one update from its micro-batches; step zero rehearses the first with this same function.

    Args:
        decoder, optimizer, plan, compute, judge: as for `updates`.
        batches: the micro-batches of the step; with several processes, this one's share of them.
        step: 1 for the first; decides the learning rate.

    Raises:
        NotFinite, SpikeFound: see `updates`.
    """
    start = time.perf_counter()
    set_learning_rate(optimizer, plan.learning_rate(step - 1))
    own_tokens = sum(batch.num_target_tokens for batch in batches)
    num_tokens = int(compute.ranks.sum([own_tokens])[0])
    loss = _accumulate(decoder, batches, num_tokens, compute)
    compute.ranks.sum_gradients(decoder.parameters())
    grad_norm = _clip(decoder, plan.grad_clip)
    _require_finite(step, loss, grad_norm)
    lr = read_learning_rate(optimizer)
    spike = judge(step, loss, grad_norm)
    if spike is None:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return Update(
        step=step,
        train_loss=loss,
        grad_norm=grad_norm,
        lr=lr,
        num_tokens=num_tokens,
        seconds=time.perf_counter() - start,
        spike=spike,
    )


def _accumulate(decoder: Decoder, batches: Sequence[Batch], num_tokens: int, compute: Compute) -> float:
    """Add up the gradient of the mean loss over all tokens of the step, as far as it is this process's; returns that
    loss of all processes in nats.

    Every micro-batch is scaled by the tokens of the whole step: a mean of means would weigh a short one too much.
    """
    total = 0.0
    for batch in batches:
        documents = None if batch.documents_BT is None else batch.documents_BT.to(compute.device)
        hidden = decoder.hidden(
            batch.inputs_BT.to(compute.device), dtype=compute.dtype, documents_BT=documents
        )
        loss = next_token_loss(
            hidden, decoder.head_weight, batch.targets_BT.to(compute.device), 1.0 / num_tokens
        )
        loss.backward()
        total += float(loss.detach())
    return compute.ranks.sum([total])[0]


def _clip(decoder: Decoder, limit: float) -> float:
    """Scale the gradient to the global norm `limit` where it is above; returns the norm before."""
    bound = limit if limit > 0 else math.inf
    return float(torch.nn.utils.clip_grad_norm_(decoder.parameters(), bound))


def _require_finite(step: int, loss: float, grad_norm: float) -> None:
    for figure, value in (("the training loss", loss), ("the gradient norm", grad_norm)):
        if not math.isfinite(value):
            raise NotFinite(figure=figure, value=str(value), step=step)
