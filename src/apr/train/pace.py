"""How long a step will take, measured here: a block or two of the model, a part of its head, and an update of both.

Each is run with the code of a real step at the sizes asked for, and extended in proportion: blocks by their number, the
head by its rows, the update by the parameters. Nothing is taken from a table of machines.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from apr.arch.config import TransformerConfig
from apr.arch.counts import parameter_count
from apr.model.decoder import Block
from apr.model.loss import CHUNK_LOGITS, next_token_loss
from apr.model.masks import document_mask
from apr.model.rope import rope_tables
from apr.train.device import Compute
from apr.train.optimizer import build_optimizer
from apr.train.plan import RunPlan

_BUDGET = 1.2e11  # floating-point operations of one round: under a second where a product makes 150 GFLOP/s
_NUM_BLOCKS = 2  # so that the second does not find the first one's weights in the cache
_HEAD_ROWS = 32768
_ROUNDS = 2  # the faster one counts, after one that warms up


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What the parts of a run take, in seconds."""

    step: float  # one update with all its micro-batches
    validation_token: float  # one token evaluated

    def validation(self, num_tokens: int) -> float:
        """One validation."""
        return num_tokens * self.validation_token


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A part of a step and of an evaluation, in seconds."""

    train: float
    evaluate: float


def measure_pace(plan: RunPlan, config: TransformerConfig, compute: Compute) -> Pace:
    """Measure what a step of the plan takes on this machine; a few seconds, and a few hundred megabytes."""
    tokens = plan.batch_size * plan.seq_length
    blocks = nn.ModuleList(Block(config) for _ in range(min(_NUM_BLOCKS, config.num_hidden_layers)))
    head = nn.Parameter(torch.empty(min(_HEAD_ROWS, config.vocab_size), config.hidden_size))
    _fill([*blocks.parameters(), head])
    blocks.to(compute.device)
    head = nn.Parameter(head.detach().to(compute.device))
    rows = _affordable_rows(plan, blocks)
    block = _time_blocks(blocks, config, compute, rows, plan.seq_length, plan.document_mask)
    part = min(tokens, max(1, CHUNK_LOGITS // config.vocab_size))
    loss = _time_head(head, compute, part)
    update = _time_update([*blocks.parameters(), head], compute)
    by_layer = config.num_hidden_layers / len(blocks)
    by_row = config.vocab_size / head.shape[0]
    num_measured = sum(p.numel() for p in (*blocks.parameters(), head))
    micro_batch = block.train * by_layer * plan.batch_size / rows + loss.train * by_row * tokens / part
    layers_token = block.evaluate * by_layer / (rows * plan.seq_length)
    return Pace(
        step=plan.grad_accum * micro_batch + update * parameter_count(config) / num_measured,
        validation_token=layers_token + loss.evaluate * by_row / part,
    )


def _fill(parameters: list[nn.Parameter]) -> None:
    with torch.no_grad():
        for parameter in parameters:
            parameter.fill_(1.0) if parameter.dim() == 1 else parameter.normal_(0.0, 0.02)


def _affordable_rows(plan: RunPlan, blocks: nn.ModuleList) -> int:
    """Rows of a micro-batch that the budget allows; the others take as long each."""
    a_row = 6 * plan.seq_length * sum(p.numel() for p in blocks.parameters())
    return max(1, min(plan.batch_size, int(_BUDGET // a_row)))


def _time_blocks(
    blocks: nn.ModuleList, config: TransformerConfig, compute: Compute, rows: int, length: int, masked: bool
) -> _Part:
    cos, sin = (table.to(compute.device, compute.dtype) for table in rope_tables(config, length))
    shape = (rows, length, config.hidden_size)
    start = torch.randn(shape, device=compute.device).to(compute.dtype).requires_grad_()

    mask = None
    if masked:  # where it cuts does not matter to the time: no product is left out for it
        documents = torch.zeros((rows, length), dtype=torch.int32, device=compute.device)
        mask = document_mask(documents, compute.dtype)

    def forward() -> Tensor:
        x = start
        for layer, block in enumerate(blocks):
            x = block(x, (cos, sin), None, layer, mask)
        return x

    def train() -> None:
        x = forward()
        x.backward(torch.ones_like(x))

    return _timed(train, forward, compute)


def _time_head(head: nn.Parameter, compute: Compute, num_tokens: int) -> _Part:
    """Embedding and loss of a tied model; an untied one does the same work on two matrices."""
    ids = torch.randint(head.shape[0], (1, num_tokens), device=compute.device)

    def forward() -> Tensor:
        hidden = F.embedding(ids, head).to(compute.dtype)
        return next_token_loss(hidden, head, ids, 1.0 / num_tokens)

    def train() -> None:
        forward().backward()

    return _timed(train, forward, compute)


def _time_update(parameters: list[nn.Parameter], compute: Compute) -> float:
    named = [(str(index), parameter) for index, parameter in enumerate(parameters)]
    optimizer = build_optimizer(named, lr=1e-6, betas=(0.9, 0.95), weight_decay=0.01)

    def update() -> None:
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return _best(update, compute)


def _timed(train: Callable[[], object], forward: Callable[[], object], compute: Compute) -> _Part:
    def evaluate() -> None:
        with torch.no_grad():
            forward()

    return _Part(train=_best(train, compute), evaluate=_best(evaluate, compute))


def _best(work: Callable[[], object], compute: Compute) -> float:
    found = [_seconds(work, compute) for _ in range(1 + _ROUNDS)]
    return min(found[1:])


def _seconds(work: Callable[[], object], compute: Compute) -> float:
    start = time.perf_counter()
    work()
    if compute.device.type == "cuda":
        torch.cuda.synchronize(compute.device)
    return time.perf_counter() - start
