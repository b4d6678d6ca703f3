"""The loop against a torch loop written by hand, and what it must never do."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from apr.arch.config import TransformerConfig
from apr.data.batches import Batch, BatchStream
from apr.model.decoder import Decoder
from apr.model.loss import next_token_loss
from apr.train.device import Compute
from apr.train.errors import NotFinite
from apr.train.loop import Update, updates
from apr.train.optimizer import (
    build_optimizer,
    greatest_moment,
    moments,
    read_learning_rate,
    set_learning_rate,
)
from apr.train.plan import RunPlan, resolve
from apr.train.spec import RunSpec
from tiny import CONFIG, QWEN_LIKE, make_weights

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = Compute(device=torch.device("cpu"), dtype=torch.float32, note="")
T = 24


def plan_of(**changes: Any) -> RunPlan:
    given = {"num_steps": 3, "batch_size": 2, "seq_length": T, "lr": 1e-4, "warmup_steps": 2, **changes}
    return resolve(RunSpec(dataset=Path("d"), run_dir=Path("r"), **given))


def decoder(config: TransformerConfig = QWEN_LIKE) -> Decoder:
    made = Decoder(config)
    made.load_state_dict({name: torch.from_numpy(value) * 3 for name, value in make_weights(config).items()})
    return made


def batch(rows: int, seed: int, lengths: Sequence[int] = ()) -> Batch:
    """Random windows; those with a length are padded behind it, as the last of a corpus is."""
    random = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, QWEN_LIKE.vocab_size, (rows, T + 1), generator=random)
    inputs, targets = ids[:, :-1].clone(), ids[:, 1:].clone()
    for row, length in enumerate(lengths):
        inputs[row, length:], targets[row, length:] = 0, -100
    count = int((targets >= 0).sum())
    return Batch(inputs_BT=inputs, targets_BT=targets, num_target_tokens=count, window_indices=())


class Listed:
    """A stream of given batches."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self.batches = list(batches)

    def planned_windows(self, num_batches: int) -> np.ndarray:
        return np.array([i for batch in self.batches[:num_batches] for i in batch.window_indices])

    def next_step(self, num_batches: int, rank: int, num_ranks: int) -> list[Batch]:
        return [self.batches.pop(0) for _ in range(num_batches)]


def run(
    module: Decoder,
    plan: RunPlan,
    batches: Sequence[Batch],
    should_stop: Callable[[], bool] = lambda: False,
    optimizer: torch.optim.AdamW | None = None,
) -> list[Update]:
    optimizer = optimizer or optimizer_of(module, plan)
    stream = cast(BatchStream, Listed(batches))
    return list(updates(module, optimizer, stream, plan, CPU, should_stop))


def optimizer_of(module: Decoder, plan: RunPlan) -> torch.optim.AdamW:
    return build_optimizer(
        module.named_parameters(), lr=plan.lr, betas=plan.betas, weight_decay=plan.weight_decay
    )


def weights(module: Decoder) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def by_hand(module: Decoder, plan: RunPlan, batches: Sequence[Batch]) -> list[tuple[float, float]]:
    """Torch's clipping and its plain AdamW, from the loss of the whole step; returns (loss, norm) a step.

    The gradient is that of our loss, which its own tests hold against torch's: where one is all but zero, AdamW's first
    step is the sign of rounding noise, and two ways of computing it would not compare. (So no biases here either: a
    key's bias hardly moves anything.)
    """
    flat = [p for n, p in module.named_parameters() if n.endswith("bias") or "norm" in n]
    rest = [p for n, p in module.named_parameters() if not (n.endswith("bias") or "norm" in n)]
    groups = [{"params": rest}, {"params": flat, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(
        groups, lr=1.0, betas=plan.betas, weight_decay=plan.weight_decay, fused=False, foreach=False
    )
    logged = []
    for step, item in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate(step)
        optimizer.zero_grad()
        head = module.head_weight.detach().clone()
        hidden = module.hidden(item.inputs_BT)
        next_token_loss(hidden, module.head_weight, item.targets_BT, 1.0 / item.num_target_tokens).backward()
        norm = torch.nn.utils.clip_grad_norm_(module.parameters(), plan.grad_clip)
        optimizer.step()
        logits = hidden.detach() @ head.T
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), item.targets_BT.flatten())
        logged.append((loss.item(), norm.item()))
    return logged


def assert_close(left: dict[str, Tensor], right: dict[str, Tensor], atol: float = 1e-6) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        torch.testing.assert_close(value, right[name], atol=atol, rtol=1e-5, msg=name)


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_three_steps_are_those_of_a_loop_by_hand(weight_decay: float) -> None:
    plan = plan_of(weight_decay=weight_decay, grad_clip=0.5, betas=(0.8, 0.99))
    batches = [batch(2, seed) for seed in range(3)]
    ours, theirs = decoder(CONFIG), decoder(CONFIG)
    logged = run(ours, plan, batches)
    wanted = by_hand(theirs, plan, batches)
    assert_close(weights(ours), weights(theirs))
    for update, (loss, norm) in zip(logged, wanted, strict=True):
        assert update.train_loss == pytest.approx(loss, rel=1e-5)
        assert update.grad_norm == pytest.approx(norm, rel=1e-5)
        assert norm > plan.grad_clip  # logged before clipping, and clipping had something to do
    assert [update.lr for update in logged] == [plan.learning_rate(step) for step in range(3)]
    assert [update.step for update in logged] == [1, 2, 3]
    assert [update.num_tokens for update in logged] == [2 * T] * 3


def first_update(plan: RunPlan, batches: Sequence[Batch]) -> tuple[list[Update], dict[str, Tensor]]:
    """One update, and the gradient it was made from: the first moment is (1 - beta) times that."""
    module = decoder()
    optimizer = optimizer_of(module, plan)
    logged = run(module, plan, batches, optimizer=optimizer)
    moved = {name: optimizer.state[value]["exp_avg"] for name, value in module.named_parameters()}
    return logged, {name: moment / (1 - plan.betas[0]) for name, moment in moved.items()}


@pytest.mark.parametrize("lengths", [(T, T, T, T), (T, 5, 11, 1)])
def test_accumulation_is_the_whole_batch(lengths: tuple[int, ...]) -> None:
    """k micro-batches of one give the update of one batch of k, however unequal their tokens."""
    whole = batch(4, 0, lengths)
    pieces = [
        Batch(
            inputs_BT=whole.inputs_BT[i : i + 1],
            targets_BT=whole.targets_BT[i : i + 1],
            num_target_tokens=lengths[i],
            window_indices=(),
        )
        for i in range(4)
    ]
    one, many = plan_of(num_steps=1, batch_size=4), plan_of(num_steps=1, batch_size=1, grad_accum=4)
    left, gradients = first_update(one, [whole])
    right, others = first_update(many, pieces)
    assert max(float(gradient.abs().max()) for gradient in gradients.values()) > 1e-2
    assert_close(gradients, others)
    assert right[0].train_loss == pytest.approx(left[0].train_loss, rel=1e-6)
    assert right[0].grad_norm == pytest.approx(left[0].grad_norm, rel=1e-5)
    assert right[0].num_tokens == left[0].num_tokens == sum(lengths)


def test_clipping_at_zero_is_off() -> None:
    runs = {}
    for clip in (0.0, 1e9, 0.01):
        module = decoder()
        runs[clip] = (
            run(module, plan_of(num_steps=2, grad_clip=clip), [batch(2, 0), batch(2, 1)]),
            weights(module),
        )
    assert runs[0.0][0][0].grad_norm == runs[0.01][0][0].grad_norm
    assert all(torch.equal(runs[0.0][1][name], runs[1e9][1][name]) for name in runs[0.0][1])
    assert any(not torch.equal(runs[0.0][1][name], runs[0.01][1][name]) for name in runs[0.0][1])


def test_every_parameter_moves_and_decay_spares_norms_and_biases() -> None:
    module = decoder()
    before = weights(module)
    plan = plan_of(num_steps=1, warmup_steps=0, weight_decay=0.5)
    run(module, plan, [batch(2, 0)])
    assert all(not torch.equal(before[name], value) for name, value in weights(module).items())

    module = decoder()
    optimizer = optimizer_of(module, plan)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, value in weights(module).items():
        share = 1 - plan.lr * 0.5 if value.dim() > 1 else 1.0
        torch.testing.assert_close(value, before[name] * share)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_the_update(poison: float) -> None:
    module = decoder()
    item = batch(2, 0)
    with torch.no_grad():
        module.model.embed_tokens.weight[int(item.inputs_BT[1, 5])] = poison
    before = weights(module)
    optimizer = optimizer_of(module, plan_of())
    with pytest.raises(NotFinite) as caught:
        run(module, plan_of(), [item], optimizer=optimizer)
    assert caught.value.step == 1
    assert not moments(optimizer)
    for name, value in weights(module).items():
        assert torch.equal(value.view(torch.int32), before[name].view(torch.int32)), name


def test_a_gradient_that_is_not_finite_stops_before_the_update() -> None:
    module = decoder()
    before = weights(module)
    module.model.norm.weight.register_hook(lambda grad: grad * math.inf)
    with pytest.raises(NotFinite) as caught:
        run(module, plan_of(), [batch(2, 0)])
    assert caught.value.figure == "the gradient norm"
    assert all(torch.equal(value, before[name]) for name, value in weights(module).items())


@pytest.mark.parametrize("num_steps", [0, 1, 5])
def test_exactly_so_many_steps_from_so_many_batches(num_steps: int) -> None:
    stream = [batch(1, seed) for seed in range(12)]
    logged = run(decoder(), plan_of(num_steps=num_steps, grad_accum=2, warmup_steps=1), stream)
    assert [update.step for update in logged] == list(range(1, num_steps + 1))


def test_it_stops_between_updates_when_asked() -> None:
    answers = iter([False, False, True])
    logged = run(decoder(), plan_of(num_steps=9), [batch(1, s) for s in range(9)], lambda: next(answers))
    assert len(logged) == 2


def test_a_fresh_optimizer_has_no_moments_and_one_rate() -> None:
    module = decoder()
    optimizer = optimizer_of(module, plan_of())
    assert (moments(optimizer), greatest_moment(optimizer)) == ([], 0.0)
    set_learning_rate(optimizer, 0.125)
    assert read_learning_rate(optimizer) == 0.125
    optimizer.param_groups[0]["lr"] = 0.5
    with pytest.raises(RuntimeError):
        read_learning_rate(optimizer)


def test_the_greatest_moment_hides_no_nan() -> None:
    module = decoder()
    optimizer = optimizer_of(module, plan_of())
    run(module, plan_of(num_steps=1), [batch(1, 0)], optimizer=optimizer)
    sizes = [float(moment.abs().max()) for moment in moments(optimizer)]
    assert len(sizes) == 2 * len(list(module.parameters()))
    assert greatest_moment(optimizer) == max(sizes) > 0
    moments(optimizer)[-1].view(-1)[0] = math.nan
    assert math.isnan(greatest_moment(optimizer))
