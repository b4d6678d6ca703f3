"""How long a step will take, measured here: a block or two of the model, a part of its head, and an update of both.

Each is run with the code of a real step at the sizes asked for, and extended in proportion: blocks by their number, the
head by its rows, the update by what is trained. A block of which nothing is trained only passes the gradient on, or, if
nothing before it is trained either, is only evaluated; adapters are measured in their places. Nothing is taken from a
table of machines.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from apr.arch.config import TransformerConfig
from apr.arch.inventory import EMBEDDING, HEAD, layer_inventory
from apr.arch.lora import PROJECTIONS, Lora
from apr.model.decoder import Block, Linear
from apr.model.lora import Adapter
from apr.model.loss import CHUNK_LOGITS, next_token_loss
from apr.model.masks import document_mask
from apr.model.rope import rope_tables
from apr.train.device import Compute
from apr.train.optimizer import build_optimizer
from apr.train.plan import RunPlan
from apr.train.subset import Subset, subset_of

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
    subset = subset_of(plan, config)
    blocks.to(compute.device)
    head = nn.Parameter(head.detach().to(compute.device))
    rows = _affordable_rows(plan, blocks)
    layers = _time_layers(blocks, config, compute, rows, plan.seq_length, plan.document_mask, subset)
    part = min(tokens, max(1, CHUNK_LOGITS // config.vocab_size))
    trains_head = (EMBEDDING if config.tie_word_embeddings else HEAD) in subset.names
    head.requires_grad_(trains_head)
    loss = _time_head(head, compute, part)
    measured = [p for p in (*blocks.parameters(), head) if p.requires_grad]
    update = _time_update(measured, compute)
    by_row = config.vocab_size / head.shape[0]
    num_measured = sum(p.numel() for p in measured)
    micro_batch = layers.train * plan.batch_size / rows + loss.train * by_row * tokens / part
    layers_token = layers.evaluate / (rows * plan.seq_length)
    return Pace(
        step=plan.grad_accum * micro_batch + update * subset.num_trainable / num_measured,
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


def _time_layers(
    blocks: nn.ModuleList,
    config: TransformerConfig,
    compute: Compute,
    rows: int,
    length: int,
    masked: bool,
    subset: Subset,
) -> _Part:
    """All layers, by what is trained of each; leaves the blocks as the run trains them, or whole."""
    count = len(blocks)
    if subset.lora is not None:
        _adapt(blocks, subset.lora)
        adapted = _time_blocks(blocks, config, compute, rows, length, masked)
        by_layer = config.num_hidden_layers / count
        return _Part(train=adapted.train * by_layer, evaluate=adapted.evaluate * by_layer)
    whole = _time_blocks(blocks, config, compute, rows, length, masked)
    shares = _trained_shares(config, subset)
    passing = whole.train
    if min(shares) < 1:
        blocks.requires_grad_(False)
        passing = _time_blocks(blocks, config, compute, rows, length, masked).train
        blocks.requires_grad_(True)
    flows, train = EMBEDDING in subset.names, 0.0
    for share in shares:
        flows = flows or share > 0
        train += passing + share * (whole.train - passing) if flows else whole.evaluate
    return _Part(train=train / count, evaluate=whole.evaluate * config.num_hidden_layers / count)


def _trained_shares(config: TransformerConfig, subset: Subset) -> list[float]:
    """The share of each layer's parameters that is trained."""
    names, shares = subset.names, []
    for layer in range(config.num_hidden_layers):
        specs = list(layer_inventory(config, layer))
        trained = sum(spec.num_elements for spec in specs if spec.name in names)
        shares.append(trained / sum(spec.num_elements for spec in specs))
    return shares


def _adapt(blocks: nn.ModuleList, lora: Lora) -> None:
    blocks.requires_grad_(False)
    for block in blocks:
        for name in lora.targets:
            projection = block.get_submodule(PROJECTIONS[name])
            assert isinstance(projection, Linear)
            rows, columns = projection.weight.shape
            projection.adapter = Adapter(columns, rows, lora, projection.weight.device)
            _fill([projection.adapter.a, projection.adapter.b])


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
    """Embedding and loss of a tied model; an untied one does the same work on two matrices.

    A frozen head still passes a gradient on to what is before it.
    """
    ids = torch.randint(head.shape[0], (1, num_tokens), device=compute.device)

    def forward() -> Tensor:
        hidden = F.embedding(ids, head).to(compute.dtype)
        if not head.requires_grad:
            hidden.requires_grad_(True)
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
