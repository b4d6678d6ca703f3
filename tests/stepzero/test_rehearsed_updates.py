"""The first update, rehearsed: every way in which updates have been wrong, and what it leaves behind: nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apr.aprfile.reader import open_apr
from apr.data.batches import BatchStream
from apr.data.shards import open_dataset
from apr.model.initialise import random_decoder
from apr.model.load import load_decoder
from apr.stepzero import rehearsal as rehearsal_module
from apr.stepzero.gate import GateResult
from apr.stepzero.rehearsal import (
    SLOPE_TOLERANCE,
    UPDATE_TOLERANCE,
    ExpectedUpdate,
    Rehearsal,
)
from apr.train import certify_update
from apr.train import loop as loop_module
from apr.train.certify_update import rehearse
from apr.train.device import Compute
from apr.train.errors import NotFinite
from apr.train.inputs import InitFile
from apr.train.optimizer import build_optimizer, greatest_moment, greatest_step, moments
from apr.train.plan import RunPlan, resolve
from apr.train.spec import RunSpec
from tiny import CONFIG, QWEN_LIKE

pytestmark = pytest.mark.usefixtures("one_thread")
V, D = 11, 6
LR, DECAY, EPS, CLIP = 1e-3, 0.1, 1e-8, 0.5
GATES = ("update.gradients", "update.changes", "update.size", "update.loss", "update.slope")


class Tiny(nn.Module):
    """An embedding, a residual layer, a norm, a head, and a tensor that is not trained."""

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.embedding = nn.Parameter(torch.randn(V, D, generator=random))
        self.layer = nn.Parameter(torch.randn(D, D, generator=random))
        self.norm = nn.Parameter(1 + 0.1 * torch.randn(D, generator=random))
        self.head = nn.Parameter(torch.randn(V, D, generator=random))
        self.frozen = nn.Parameter(torch.randn(D, generator=random), requires_grad=False)
        self.detached = False

    def forward(self, ids: Tensor) -> Tensor:
        x = F.embedding(ids, self.embedding)
        inner = torch.tanh(x @ self.layer)
        x = x + (inner.detach() + 0 * inner if self.detached else inner)
        return (x * self.norm) @ self.head.T + self.frozen.sum()


TRAINABLE = frozenset({"embedding", "layer", "norm", "head"})
Change = Callable[[Tiny], Any]


def nothing(module: Tiny) -> None:
    """Leave it."""


def clip_norm(module: Tiny) -> float:
    """Scale the gradient to the global norm CLIP; returns the norm before."""
    return float(nn.utils.clip_grad_norm_(module.parameters(), CLIP))


def _norm(module: Tiny) -> float:
    return float(nn.utils.clip_grad_norm_(module.parameters(), math.inf))


@dataclass(frozen=True, kw_only=True)
class Loop:
    """A training loop of two micro-batches of unequal length; each field is a place where loops go wrong."""

    prepare: Change = nothing
    scale: float = 1.0  # of the loss
    counted: tuple[int, ...] = (0, 1)  # micro-batches whose loss is gone through backwards
    mean_of_means: bool = False
    after_backward: Change = nothing
    clip: Callable[[Tiny], float] = clip_norm
    num_steps: int = 1
    before_step: Change = nothing
    after_step: Change = nothing
    zero_grad: bool = True
    kind: type[torch.optim.Optimizer] = torch.optim.AdamW
    settings: dict[str, Any] = field(default_factory=dict)
    decays: tuple[str, ...] = ("embedding", "layer", "head")
    logged: float = 1.0  # times the loss

    def optimizer(self, module: Tiny) -> torch.optim.Optimizer:
        named = dict(module.named_parameters())
        groups = [
            {"params": [p for n, p in named.items() if n in self.decays], "weight_decay": DECAY},
            {"params": [p for n, p in named.items() if n not in self.decays], "weight_decay": 0.0},
        ]
        return self.kind(groups, **{"lr": LR, "betas": (0.9, 0.95), "eps": EPS, **self.settings})

    def update(self, module: Tiny, optimizer: torch.optim.Optimizer) -> tuple[float, float]:
        """Make an update; returns (loss, norm before clipping)."""
        total, num_tokens = 0.0, sum(len(ids) - 1 for ids in BATCHES)
        for number, ids in enumerate(BATCHES):
            share = 1 / len(BATCHES) / (len(ids) - 1) if self.mean_of_means else 1 / num_tokens
            loss = loss_sum(module, ids)
            total += loss.item() / num_tokens
            if number in self.counted:
                (loss * share * self.scale).backward()
        self.after_backward(module)
        norm = self.clip(module)
        self.before_step(module)
        for _ in range(self.num_steps):
            optimizer.step()
        with torch.no_grad():
            self.after_step(module)
        if self.zero_grad:
            optimizer.zero_grad(set_to_none=True)
        return total * self.logged, norm


BATCHES = [torch.randint(0, V, (n,), generator=torch.Generator().manual_seed(n)) for n in (25, 7)]


def loss_sum(module: Tiny, ids: Tensor) -> Tensor:
    return F.cross_entropy(module(ids[:-1]), ids[1:], reduction="sum")


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A rehearsal that was carried out and taken back."""

    module: Tiny
    optimizer: torch.optim.Optimizer
    gates: tuple[GateResult, ...]

    @property
    def refusal(self) -> GateResult:
        """The first gate that said no."""
        return next(gate for gate in self.gates if gate.verdict == "no")


def expected_of(**changes: Any) -> ExpectedUpdate:
    decay = {"embedding": DECAY, "layer": DECAY, "head": DECAY}
    given = {"lr": LR, "eps": EPS, "weight_decay": decay, "grad_clip": CLIP, **changes}
    return ExpectedUpdate(**given)


def attempt(loop: Loop, expected: ExpectedUpdate | None = None, dtype: str = "fp32") -> Tried:
    """Rehearse as a run does, up to the first gate that says no."""
    expected = expected or expected_of()
    module = Tiny()
    loop.prepare(module)
    copies = {name: value.detach().clone() for name, value in module.named_parameters()}
    optimizer = loop.optimizer(module)
    rehearsal = Rehearsal(
        parameters=dict(module.named_parameters()),
        optimizer=optimizer,
        original=copies.__getitem__,
        trainable=TRAINABLE,
    )
    made: list[tuple[float, float]] = []
    gates: list[GateResult] = []

    def loss() -> float:
        with torch.no_grad():
            return sum(loss_sum(module, ids).item() for ids in BATCHES) / 30

    asked: list[Callable[[], GateResult]] = [
        rehearsal.gradients_gate,
        lambda: rehearsal.changes_gate(expected.lr),
        lambda: rehearsal.size_gate(expected, made[0][1]),
        lambda: rehearsal.loss_gate(made[0][0], loss, 1e-3),
        lambda: rehearsal.slope_gate(loss, dtype, made[0][1]),
    ]
    rehearsal.carry_out(lambda: made.append(loop.update(module, optimizer)))
    for number, ask in enumerate(asked):
        if number == 3:
            rehearsal.undo()
        gates.append(ask())
        if gates[-1].verdict == "no":
            break
    rehearsal.undo()
    assert all(torch.equal(value, copies[name]) for name, value in module.named_parameters())
    return Tried(module=module, optimizer=optimizer, gates=tuple(gates))


@pytest.mark.parametrize(
    ("loop", "expected"),
    [
        (Loop(), expected_of()),
        (Loop(clip=_norm), expected_of(grad_clip=0.0)),
        (Loop(clip=_norm), expected_of(grad_clip=1e9)),  # nothing to clip
        (Loop(settings={"fused": True}), expected_of()),
        (Loop(settings={"foreach": True}), expected_of()),
        (Loop(settings={"lr": 1e-5}), expected_of(lr=1e-5)),
        (Loop(settings={"lr": 0.1}), expected_of(lr=0.1)),
        (Loop(settings={"eps": 1e-3}), expected_of(eps=1e-3)),
        (Loop(settings={"betas": (0.0, 0.5)}), expected_of()),  # the first step does not depend on them
    ],
)
def test_an_update_as_it_should_be_is_a_yes(loop: Loop, expected: ExpectedUpdate) -> None:
    tried = attempt(loop, expected)
    assert [(gate.id, gate.verdict, gate.cause) for gate in tried.gates] == [(id, "yes", "") for id in GATES]
    facts = {gate.id: gate.facts for gate in tried.gates}
    assert facts["update.gradients"]["num_trainable"] == 4
    assert facts["update.changes"]["num_frozen"] == 1
    assert facts["update.size"]["lr"] == expected.lr
    assert facts["update.slope"]["groups"].keys() == {"embedding", "layer", "the norms", "head"}
    assert tried.gates[-1].figure < SLOPE_TOLERANCE["fp32"] / 5


def test_the_figures_of_clipping_are_written_down() -> None:
    facts = attempt(Loop()).gates[2].facts
    assert facts["norm_at_step"] == pytest.approx(CLIP, rel=1e-5)
    assert facts["norm_before_clipping"] > 2 * CLIP
    assert facts["grad_clip"] == CLIP


def test_a_small_limit_is_no_defect() -> None:
    """torch adds 1e-6 to the norm, which is much where the limit is little."""
    limit = 1e-4

    def clip(module: Tiny) -> float:
        for parameter in module.parameters():
            if parameter.grad is not None:
                parameter.grad *= 2e-4 / 3  # a gradient that is as small
        return float(nn.utils.clip_grad_norm_(module.parameters(), limit))

    gates = attempt(Loop(clip=clip), expected_of(grad_clip=limit)).gates
    assert [gate.verdict for gate in gates[:3]] == ["yes"] * 3


def grad(name: str, change: Callable[[Tensor], Any]) -> Change:
    return lambda module: change(getattr(module, name).grad)


def drop(name: str) -> Change:
    return lambda module: setattr(getattr(module, name), "grad", None)


def by_value(module: Tiny) -> float:
    norm = _norm(module)
    nn.utils.clip_grad_value_(module.parameters(), 0.01)
    return norm


def to_half(module: Tiny) -> float:
    return float(nn.utils.clip_grad_norm_(module.parameters(), CLIP / 2))


def each_alone(limit: float) -> Callable[[Tiny], float]:
    def clip(module: Tiny) -> float:
        norm = _norm(module)
        for parameter in module.parameters():
            if parameter.grad is not None:
                nn.utils.clip_grad_norm_([parameter], limit)
        return norm

    return clip


DEFECTS: dict[str, tuple[Loop, str, str]] = {  # defect -> (loop, the gate that says no, a word of its cause)
    "a tensor without a gradient": (Loop(after_backward=drop("norm")), "update.gradients", "norm has no"),
    "two without": (
        Loop(after_backward=lambda m: (drop("norm")(m), drop("head")(m))),
        "update.gradients",
        "1 more",
    ),
    "a tensor that the optimizer was not given": (
        Loop(kind=lambda groups, **rest: torch.optim.AdamW(groups[:1], **rest)),
        "update.gradients",
        "norm has no gradient",
    ),
    "a gradient of zero": (
        Loop(after_backward=grad("layer", Tensor.zero_)),
        "update.gradients",
        "layer has a gradient of zero",
    ),
    "a NaN in the gradient": (
        Loop(after_backward=grad("head", lambda g: g[2].fill_(math.nan)), clip=lambda m: 1.0),
        "update.gradients",
        "head has a gradient that is NaN",
    ),
    "an infinity in the gradient": (
        Loop(after_backward=grad("head", lambda g: g[2].fill_(math.inf)), clip=lambda m: 1.0),
        "update.gradients",
        "infinite",
    ),
    "a gradient that is kept": (Loop(zero_grad=False), "update.gradients", "left over"),
    "two steps in one": (Loop(num_steps=2), "update.gradients", "2 optimizer steps"),
    "no step": (Loop(num_steps=0), "update.gradients", "0 optimizer steps"),
    "a tensor put back": (
        Loop(after_step=lambda m: m.norm.copy_(Tiny().norm)),
        "update.changes",
        "left norm as it was",
    ),
    "all tensors put back": (
        Loop(after_step=lambda m: m.load_state_dict(Tiny().state_dict())),
        "update.changes",
        "3 more",
    ),
    "a frozen tensor moved": (Loop(after_step=lambda m: m.frozen.add_(1e-6)), "update.changes", "frozen"),
    "ten times the rate": (Loop(settings={"lr": 10 * LR}), "update.size", "learning rate"),
    "a tenth of the rate": (Loop(settings={"lr": LR / 10}), "update.size", "learning rate"),
    "a little more than the rate": (Loop(settings={"lr": 1.05 * LR}), "update.size", "learning rate"),
    "the rate of one group": (
        Loop(before_step=nothing, kind=lambda groups, **rest: _one_rate(groups, rest)),
        "update.size",
        "norm moved",
    ),
    "a norm that decays": (
        Loop(decays=("embedding", "layer", "head", "norm")),
        "update.size",
        "norm moved",
    ),
    "nothing decays": (Loop(decays=()), "update.size", "moved otherwise"),
    "decay in the gradient": (Loop(kind=torch.optim.Adam), "update.size", "moved otherwise"),
    "another epsilon": (Loop(settings={"eps": 1e-2}), "update.size", "moved otherwise"),
    "another optimizer": (
        Loop(kind=lambda groups, lr, **rest: torch.optim.SGD(groups, lr=lr)),
        "update.size",
        "moved otherwise",
    ),
    "a step uphill": (Loop(settings={"maximize": True}), "update.size", "moved otherwise"),
    "one element not moved": (
        Loop(after_step=lambda m: m.head[3, 2].copy_(Tiny().head[3, 2])),
        "update.size",
        "head moved",
    ),
    "a NaN in the weights": (
        Loop(after_step=lambda m: m.head[3, 2].fill_(math.nan)),
        "update.size",
        "head moved",
    ),
    "no clipping": (Loop(clip=_norm), "update.size", "not clipped"),
    "clipping after the step": (
        Loop(clip=_norm, after_step=lambda m: clip_norm(m)),
        "update.size",
        "not clipped",
    ),
    "another limit": (Loop(clip=to_half), "update.size", "clipped to 0.5"),
    "clipping by value": (Loop(clip=by_value), "update.size", "clipped to 0.5"),
    "clipping tensor by tensor": (Loop(clip=each_alone(CLIP / 3)), "update.size", "clipped to 0.5"),
    # four tensors of half the limit have the limit as their norm together
    "clipping tensor by tensor alike": (Loop(clip=each_alone(CLIP / 2)), "update.slope", "not the slope"),
    "another loss in the log": (Loop(logged=1.01), "update.loss", "logs"),
    "a log without a number": (Loop(logged=math.nan), "update.loss", "logs"),
    "a loss scale that stays": (Loop(scale=2.0), "update.slope", "not the slope"),
    "a sum for a mean": (Loop(scale=30.0), "update.slope", "not the slope"),
    "a step upwards of the loss": (Loop(scale=-1.0), "update.slope", "not the slope"),
    "the last micro-batch only": (Loop(counted=(1,)), "update.slope", "not the slope"),
    "the first micro-batch only": (Loop(counted=(0,)), "update.slope", "not the slope"),
    "a mean of means": (Loop(mean_of_means=True), "update.slope", "not the slope"),
    "a path that is detached": (
        Loop(prepare=lambda m: setattr(m, "detached", True), after_backward=lambda m: _revive(m)),
        "update.slope",
        "not the slope",
    ),
    "gradients of two tensors exchanged": (
        Loop(after_backward=lambda m: _exchange(m.embedding, m.head)),
        "update.slope",
        "not the slope",
    ),
}


def _one_rate(groups: list[dict[str, Any]], rest: dict[str, Any]) -> torch.optim.Optimizer:
    """The schedule reached the first group only."""
    optimizer = torch.optim.AdamW(groups, **rest)
    optimizer.param_groups[1]["lr"] = 10 * LR
    return optimizer


def _revive(module: Tiny) -> None:
    """A gradient that something else left in the detached layer, so that it is not missing."""
    module.layer.grad = torch.full_like(module.layer, 1e-3)


def _exchange(left: nn.Parameter, right: nn.Parameter) -> None:
    left.grad, right.grad = right.grad, left.grad


@pytest.mark.parametrize("case", DEFECTS)
def test_a_defect_is_seen_by_its_gate(case: str) -> None:
    loop, gate_id, word = DEFECTS[case]
    gate = attempt(loop).refusal
    assert gate.id == gate_id
    assert word in gate.cause


@pytest.mark.parametrize("case", ["no clipping", "a loss scale that stays", "a mean of means"])
def test_it_is_seen_without_clipping_too(case: str) -> None:
    """With clipping off there is nothing to clip, and the gradient itself is judged."""
    loop = replace(DEFECTS[case][0], clip=_norm)
    tried = attempt(loop, expected_of(grad_clip=0.0))
    verdict = "yes" if case == "no clipping" else "no"
    assert (tried.gates[-1].id, tried.gates[-1].verdict) == ("update.slope", verdict)


def test_a_step_that_rounding_swallows_is_told_apart() -> None:
    tried = attempt(Loop(settings={"lr": 1e-10}), expected_of(lr=1e-10))
    assert tried.refusal.id == "update.changes"
    assert "rounding" in tried.refusal.cause
    assert "rounding" not in attempt(DEFECTS["a tensor put back"][0]).refusal.cause


@pytest.mark.parametrize(("share", "verdict"), [(0.5, "yes"), (2.0, "no")])
def test_the_size_is_judged_to_a_share_of_the_rate(share: float, verdict: str) -> None:
    off = share * UPDATE_TOLERANCE * LR

    def nudge(module: Tiny) -> None:
        module.norm[1].add_(off)

    gate = attempt(Loop(after_step=nudge)).gates[2]
    assert (gate.id, gate.verdict) == ("update.size", verdict)
    assert gate.figure == pytest.approx(share * UPDATE_TOLERANCE, rel=0.05)


def test_the_slope_of_a_narrow_type_is_judged_less_closely() -> None:
    scaled = Loop(scale=1.1)
    assert attempt(scaled).refusal.id == "update.slope"
    assert attempt(scaled, dtype="bf16").gates[-1].verdict == "yes"
    assert attempt(Loop(scale=1.5), dtype="bf16").refusal.id == "update.slope"


def test_pieces_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal_module, "_PIECE", 7)
    whole = attempt(Loop()).gates
    assert {gate.verdict for gate in whole} == {"yes"}
    for case in ("one element not moved", "a tensor put back", "another epsilon"):
        assert attempt(DEFECTS[case][0]).refusal.id == DEFECTS[case][1]


# --- update.slope by itself ----------------------------------------------------------------------


def slope_of(loss: Callable[[Tensor], Tensor], start: float = 1.0, scale: float = 1.0) -> GateResult:
    """The gate for one tensor of one value, whose gradient is `scale` times the true one."""
    value = nn.Parameter(torch.tensor([start]))
    optimizer = torch.optim.AdamW([value], lr=1e-3)
    rehearsal = Rehearsal(
        parameters={"w": value},
        optimizer=optimizer,
        original=lambda name: torch.tensor([start]),
        trainable=frozenset({"w"}),
    )

    def update() -> None:
        (loss(value).sum() * scale).backward()
        optimizer.step()

    rehearsal.carry_out(update)
    rehearsal.undo()
    gate = rehearsal.slope_gate(lambda: float(loss(value.detach()).double().sum()), "fp32")
    assert torch.equal(value.detach(), torch.tensor([start]))
    return gate


@pytest.mark.parametrize("bend", [-500.0, 0.0, 100.0, 1000.0])
def test_a_loss_that_bends_is_measured_closer_by(bend: float) -> None:
    def curved(x: Tensor) -> Tensor:
        return 0.5 * (x - 1) + bend * (x - 1) ** 3

    assert slope_of(curved).verdict == "yes"
    for scale in (0.5, 0.8, 1.2, 1.3):
        assert slope_of(curved, scale=scale).verdict == "no", scale


def test_a_bend_does_not_make_up_for_a_wrong_gradient_closer_by() -> None:
    """Wrong by what the bend adds at one distance: seen at another."""
    bend, scale = 1e4, 1.3
    distance = 0.005 / 2 / (0.5 * scale)
    assert 0.5 + bend * distance**2 == pytest.approx(0.5 * scale, rel=0.02)
    assert slope_of(lambda x: 0.5 * (x - 1) + bend * (x - 1) ** 3, scale=scale).verdict == "no"


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_loss_that_is_no_number_has_no_slope(broken: float) -> None:
    calls = []

    def loss(x: Tensor) -> Tensor:
        calls.append(1)
        return x * 0.5 + (broken if len(calls) > 1 else 0.0)

    gate = slope_of(loss)
    assert gate.verdict == "no"
    assert not gate.figure <= gate.limit


def test_a_flat_loss_is_no_slope() -> None:
    calls = []

    def loss(x: Tensor) -> Tensor:
        calls.append(1)
        return x * 0.5 if len(calls) == 1 else x * 0

    assert slope_of(loss).verdict == "no"


def test_a_rehearsal_without_gradients_has_no_slope() -> None:
    value = nn.Parameter(torch.ones(2))
    rehearsal = Rehearsal(
        parameters={"w": value},
        optimizer=torch.optim.AdamW([value]),
        original=lambda name: torch.ones(2),
        trainable=frozenset({"w"}),
    )
    rehearsal.carry_out(lambda: None)
    assert rehearsal.gradients_gate().verdict == "no"
    assert rehearsal.slope_gate(lambda: 1.0, "fp32").verdict == "no"


# --- what is left behind -------------------------------------------------------------------------


class Boom(Exception):
    """Something that went wrong in the middle."""


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("raises", ["not", "before the step", "behind the step"])
def test_nothing_is_left_behind(raises: str, stored: torch.dtype) -> None:
    """Bit for bit: weights, moments, gradients, hooks; also where the update raises, and from a narrower copy."""
    module = Tiny()
    with torch.no_grad():
        for value in module.parameters():
            value.copy_(value.to(stored))
            value.view(-1)[0] = -0.0
    before = {name: value.detach().clone() for name, value in module.named_parameters()}

    def boom(module: Tiny) -> None:
        raise Boom

    spoil = {"before the step": {"before_step": boom}, "behind the step": {"after_step": boom}}
    loop = Loop(**spoil.get(raises, {}), zero_grad=False)
    optimizer = loop.optimizer(module)
    rehearsal = Rehearsal(
        parameters=dict(module.named_parameters()),
        optimizer=optimizer,
        original=lambda name: before[name].to(stored),
        trainable=TRAINABLE,
    )
    try:
        rehearsal.carry_out(lambda: loop.update(module, optimizer))
    except Boom:
        assert raises != "not"
    if raises != "before the step":
        assert any(not torch.equal(value, before[name]) for name, value in module.named_parameters())
        assert greatest_step(optimizer) == 1
    rehearsal.undo()
    for name, value in module.named_parameters():
        assert torch.equal(value.detach().view(torch.int32), before[name].view(torch.int32)), name
        assert value.grad is None
        assert value.dtype == torch.float32
    assert not optimizer.state
    assert not optimizer._optimizer_step_pre_hooks


def test_the_next_update_is_as_if_none_had_been() -> None:
    tried, fresh = attempt(Loop()), Tiny()
    optimizer = Loop().optimizer(fresh)
    for module, own in ((tried.module, tried.optimizer), (fresh, optimizer)):
        for _ in range(3):
            Loop().update(module, own)
    for name, value in fresh.named_parameters():
        assert torch.equal(value, tried.module.get_parameter(name)), name


# --- of a real run -------------------------------------------------------------------------------

CPU = Compute(device=torch.device("cpu"), dtype=torch.float32, note="")


def plan_of(**changes: Any) -> RunPlan:
    given = {"num_steps": 5, "batch_size": 2, "seq_length": 48, "lr": 1e-4, "warmup_steps": 2, **changes}
    return resolve(RunSpec(dataset=Path("d"), run_dir=Path("r"), **given))


def stream_of(shards: Path, plan: RunPlan) -> BatchStream:
    return BatchStream(open_dataset(shards), plan.seq_length, plan.batch_size, plan.seed, False)


@pytest.mark.parametrize("config", [CONFIG, QWEN_LIKE], ids=lambda config: config.family)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("grad_clip", [0.0, 0.01, 1.0])
def test_a_decoders_first_update_is_a_yes_and_is_taken_back(
    tiny_shards: Path, config: Any, dtype: torch.dtype, grad_clip: float
) -> None:
    plan = plan_of(grad_clip=grad_clip)
    decoder = random_decoder(config, 0)
    before = {name: value.detach().clone() for name, value in decoder.named_parameters()}
    optimizer = build_optimizer(
        decoder.named_parameters(), lr=plan.lr, betas=plan.betas, weight_decay=plan.weight_decay
    )
    stream = stream_of(tiny_shards, plan)
    gates = rehearse(decoder, optimizer, stream, plan, replace(CPU, dtype=dtype), None)
    assert [(gate.id, gate.verdict) for gate in gates] == [(id, "yes") for id in GATES]
    assert gates[-1].facts["groups"].keys() == {
        *("model.embed_tokens.weight", "queries and keys", "values and attention outputs"),
        *("the feed-forward", "the norms"),
    }
    assert gates[2].facts["lr"] == plan.lr  # the highest of the plan
    assert stream.cursor == 0
    for name, value in decoder.named_parameters():
        assert torch.equal(value, before[name])
        assert value.grad is None
    assert (moments(optimizer), greatest_moment(optimizer), greatest_step(optimizer)) == ([], 0.0, 0.0)
    assert {group["lr"] for group in optimizer.param_groups} == {plan.learning_rate(0)}


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_the_rate_is_the_highest_that_the_run_will_have(tiny_shards: Path, num_steps: int) -> None:
    plan = plan_of(num_steps=num_steps, warmup_steps=10)
    decoder = random_decoder(CONFIG, 0)
    optimizer = build_optimizer(
        decoder.named_parameters(), lr=plan.lr, betas=plan.betas, weight_decay=plan.weight_decay
    )
    gates = rehearse(decoder, optimizer, stream_of(tiny_shards, plan), plan, CPU, None)
    assert gates[2].facts["lr"] == max(plan.learning_rate(step) for step in range(num_steps))


@pytest.mark.parametrize("fault", ["none", "a gate says no", "it is not finite", "it raises"])
def test_the_files_weights_come_back_whatever_happens(
    tiny_apr: Path, tiny_shards: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of()
    real = loop_module.next_token_loss

    def poisoned(*arguments: Any) -> Tensor:
        return real(*arguments) * math.nan

    def late(*arguments: Any) -> Any:
        loop_module.make_update(*arguments)
        raise Boom

    if fault == "a gate says no":
        monkeypatch.setattr(loop_module, "_clip", lambda decoder, limit: 123.0)
    elif fault == "it is not finite":
        monkeypatch.setattr(loop_module, "next_token_loss", poisoned)
    elif fault == "it raises":
        monkeypatch.setattr(certify_update, "make_update", late)
    with open_apr(tiny_apr) as file:
        loaded = load_decoder(file)
        init = InitFile(file=file, facts=loaded.facts, reference=None, check_seconds=0.0)
        before = {name: value.detach().clone() for name, value in loaded.decoder.named_parameters()}
        optimizer = build_optimizer(
            loaded.decoder.named_parameters(), lr=plan.lr, betas=plan.betas, weight_decay=plan.weight_decay
        )
        arguments = (loaded.decoder, optimizer, stream_of(tiny_shards, plan), plan, CPU, init)
        if fault == "it is not finite":
            with pytest.raises(NotFinite) as caught:
                rehearse(*arguments)
            assert caught.value.step == 1
        elif fault == "it raises":
            with pytest.raises(Boom):
                rehearse(*arguments)
        else:
            gates = rehearse(*arguments)
            refused = [gate.id for gate in gates if gate.verdict == "no"]
            assert refused == ([] if fault == "none" else ["update.size"])
        for name, value in loaded.decoder.named_parameters():
            assert torch.equal(value, before[name])
            assert value.grad is None
        assert not optimizer.state
        assert {group["lr"] for group in optimizer.param_groups} == {plan.learning_rate(0)}


def test_only_matrices_that_no_token_picks_rows_of_have_no_zeros() -> None:
    named = dict(random_decoder(QWEN_LIKE, 0).named_parameters())
    found = certify_update.dense_names(named, QWEN_LIKE.vocab_size)
    assert {name for name in named if "_proj.weight" in name} == found
    assert "model.layers.0.self_attn.k_proj.bias" in named
