"""Faults of gradient, optimizer and update: the loss is right, and what is learnt from it is not."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from apr.stepzero.faults.fault import Fault, Patch
from apr.stepzero.faults.forward import instead

_BUILD = "apr.train.certify:build_optimizer"
_CLIP = "apr.train.loop:_clip"
_ACCUMULATE = "apr.train.loop:_accumulate"
_STEP = "torch.optim:AdamW.step"


def _fault(
    name: str,
    gate: str,
    says: str,
    target: str,
    wrap: Callable[[Any], Any],
    imitates: tuple[str, ...],
    **more: Any,
) -> Fault:
    return Fault(
        id=f"optimizer.{name}", imitates=imitates, place="optimizer", gate=gate, says=says,
        patches=(Patch(target=target, wrap=wrap),), **more,
    )  # fmt: skip


def _built(change: Callable[[torch.optim.Optimizer], Any]) -> Callable[[Any], Any]:
    """Change the optimizer when it has been built."""

    def wrap(original: Any) -> Any:
        def build(*args: Any, **kwargs: Any) -> Any:
            optimizer = original(*args, **kwargs)
            return change(optimizer) or optimizer

        return build

    return wrap


def _options(**changes: Any) -> Callable[[Any], Any]:
    return lambda original: lambda *args, **kwargs: original(*args, **{**kwargs, **changes})


def _copies(original: Any) -> Any:
    """Build over copies, as a wrapper that replaces parameters after the optimizer was made does."""

    def build(named: Any, **kwargs: Any) -> Any:
        return original([(name, value.detach().clone().requires_grad_()) for name, value in named], **kwargs)

    return build


def _one_less(original: Any) -> Any:
    def build(named: Any, **kwargs: Any) -> Any:
        return original(
            [pair for pair in named if not pair[0].endswith("layers.0.mlp.up_proj.weight")], **kwargs
        )

    return build


def _all_decay(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.01


def _eps(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        group["eps"] = 1e-3


def _coupled(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Adam with L2 in the gradient, instead of AdamW."""
    return torch.optim.Adam(
        [
            {"params": group["params"], "weight_decay": group["weight_decay"]}
            for group in optimizer.param_groups
        ],
        lr=optimizer.param_groups[0]["lr"],
        betas=optimizer.param_groups[0]["betas"],
        eps=optimizer.param_groups[0]["eps"],
    )


def _ascending(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        group["maximize"] = True


def _used_before(original: Any) -> Any:
    """Moments of an earlier run come back when everything else has been judged."""

    def judge(court: Any, decoder: Any, optimizer: torch.optim.Optimizer, stream: Any) -> None:
        original(court, decoder, optimizer, stream)
        parameter = optimizer.param_groups[0]["params"][0]
        optimizer.state[parameter] = {
            "step": torch.tensor(5.0),
            "exp_avg": torch.full_like(parameter, 1e-3),
            "exp_avg_sq": torch.full_like(parameter, 1e-6),
        }

    return judge


def _with_moments(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            zeros = torch.zeros_like(parameter)
            optimizer.state[parameter] = {
                "step": torch.tensor(5.0), "exp_avg": zeros + 1e-3, "exp_avg_sq": zeros + 1e-6,
            }  # fmt: skip
    return optimizer


def _norm_only(decoder: Any, limit: float) -> float:
    """The norm is taken, and the gradient is not scaled."""
    return float(torch.nn.utils.clip_grad_norm_(decoder.parameters(), float("inf")))


def _by_value(decoder: Any, limit: float) -> float:
    norm = _norm_only(decoder, limit)
    torch.nn.utils.clip_grad_value_(decoder.parameters(), 1e-4)
    return norm


def _fourth_power(decoder: Any, limit: float) -> float:
    """The factor is limit over the norm's fourth power."""
    norm = _norm_only(decoder, limit)
    for parameter in decoder.parameters():
        if parameter.grad is not None:
            parameter.grad.mul_(min(1.0, limit / max(norm, 1e-12) ** 4))
    return norm


def _by_tensor(decoder: Any, limit: float) -> float:
    """Every tensor is clipped alone."""
    norm = _norm_only(decoder, limit)
    for parameter in decoder.parameters():
        torch.nn.utils.clip_grad_norm_([parameter], limit)
    return norm


def _invented(original: Any) -> Any:
    """The logged gradient norm is a constant."""

    def clip(decoder: Any, limit: float) -> float:
        original(decoder, limit)
        return 1.0

    return clip


def _last_only(original: Any) -> Any:
    """Of the micro-batches only the last is kept."""

    def accumulate(decoder: Any, batches: Any, num_tokens: int, compute: Any) -> float:
        loss = 0.0
        for batch in batches:
            decoder.zero_grad(set_to_none=True)
            loss += original(decoder, [batch], num_tokens, compute)
        return loss

    return accumulate


def _means_of_means(original: Any) -> Any:
    """Every micro-batch weighs alike, however many tokens it has."""

    def accumulate(decoder: Any, batches: Any, num_tokens: int, compute: Any) -> float:
        return float(
            sum(original(decoder, [b], len(batches) * b.num_target_tokens, compute) for b in batches)
        )

    return accumulate


def _constant_loss(original: Any) -> Any:
    def accumulate(*args: Any) -> float:
        original(*args)
        return 0.0

    return accumulate


def _loss_scale(original: Any) -> Any:
    """The gradient keeps a loss scale of 65,536 that fp16 would have needed."""

    def accumulate(decoder: Any, *args: Any) -> float:
        loss: float = original(decoder, *args)
        for parameter in decoder.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(65536.0)
        return loss

    return accumulate


def _stepping_too(original: Any) -> Any:
    """A hook on the gradients steps the optimizer, and then the loop does."""
    seen: list[Any] = []

    def accumulate(decoder: Any, *args: Any) -> float:
        loss: float = original(decoder, *args)
        seen.extend(o for o in _optimizers_of(decoder) if not seen)
        for optimizer in seen:
            optimizer.step()
        return loss

    return accumulate


def _optimizers_of(decoder: Any) -> list[torch.optim.Optimizer]:
    first = next(iter(decoder.parameters()))
    return [
        item
        for item in gc.get_objects()
        if isinstance(item, torch.optim.AdamW)
        and any(p is first for group in item.param_groups for p in group["params"])
    ]


def _nan_gradient(original: Any) -> Any:
    def accumulate(decoder: Any, *args: Any) -> float:
        loss: float = original(decoder, *args)
        next(iter(decoder.parameters())).grad.view(-1)[0] = torch.nan
        return loss

    return accumulate


def _masked_gradient(original: Any) -> Any:
    """A mask that had kept some rows as they were is still on."""

    def accumulate(decoder: Any, *args: Any) -> float:
        loss: float = original(decoder, *args)
        *_, projection = (p for name, p in decoder.named_parameters() if "down_proj" in name)
        projection.grad[: len(projection) // 2] = 0
        return loss

    return accumulate


def _skips_one(original: Any) -> Any:
    """A compiled step has lost a parameter."""

    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        parameter = self.param_groups[0]["params"][-1]
        kept = parameter.detach().clone()
        result = original(self, *args, **kwargs)
        with torch.no_grad():
            parameter.copy_(kept)
        return result

    return step


def _tiny_rate(original: Any) -> Any:
    """The plan is consistent, and no weight can feel it."""
    return lambda spec: replace(original(spec), lr=1e-14)


def _half_rate(original: Any) -> Any:
    """The kernel takes half of the rate that the groups name."""

    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        rates = [group["lr"] for group in self.param_groups]
        for group in self.param_groups:
            group["lr"] = group["lr"] / 2
        result = original(self, *args, **kwargs)
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"] = rate
        return result

    return step


def _straight(forward: Tensor, backward: Tensor) -> Tensor:
    """The value of one, with the gradient of the other."""
    return forward.detach() + backward - backward.detach()


def _rope_backward(original: Any) -> Any:
    """The rotation is left out of the backward pass."""
    return lambda x, cos, sin: _straight(original(x, cos, sin), x)


def _silu_backward(original: Any) -> Any:
    """The gate's gradient lacks the derivative of its activation."""
    return lambda x: _straight(original(x), x)


def _norm_backward(original: Any) -> Any:
    """A norm whose weight gets no gradient."""

    def forward(self: Any, x: Tensor) -> Tensor:
        wide = x.float()
        normal = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (self.weight.detach() * normal).to(x.dtype)

    return forward


def _cut_off(original: Any) -> Any:
    """The gradient of the feed-forward's input is lost: the layers below learn through attention alone."""

    def forward(self: Any, x: Tensor) -> Any:
        return original(self, x.detach())

    return forward


def _no_skip(original: Any) -> Any:
    """The gradient passes a block through its norms only, and not beside them."""

    def forward(self: Any, x: Tensor, rope: Any, cache: Any, layer: int, mask: Any = None) -> Tensor:
        out: Tensor = original(self, x, rope, cache, layer, mask)
        return _straight(out, out - x)

    return forward


OPTIMIZER_FAULTS: tuple[Fault, ...] = (
    _fault("copies", "optimizer.settings", "the optimizer held copies of the parameters", _BUILD, _copies, ("S-66", "S-29"),
           quick=True),
    _fault("one-less", "optimizer.settings", "the optimizer had not been given one tensor", _BUILD, _one_less, ("S-43",)),
    _fault("norms-decay", "optimizer.settings", "norms and biases decayed too", _BUILD, _built(_all_decay), ("S-41",),
           quick=True),
    _fault("betas", "optimizer.settings", "the betas were the library's default", _BUILD, _options(betas=(0.9, 0.999)),
           ("S-41",)),
    _fault("decay", "optimizer.settings", "the weight decay was ten times the plan's", _BUILD, _options(weight_decay=0.1),
           ("S-41",)),
    _fault("epsilon", "optimizer.settings", "the epsilon was a thousandth", _BUILD, _built(_eps), ("S-41",)),
    _fault("adam", "update.size", "weight decay went into the gradient, as Adam's L2 does", _BUILD, _built(_coupled),
           ("S-41",)),
    _fault("ascends", "update.size", "the optimizer went up instead of down", _BUILD, _built(_ascending), ("S-44",)),
    _fault("half-rate", "update.size", "the update took half of the learning rate", _STEP, _half_rate, ("S-40",)),
    _fault("used-before", "optimizer.fresh", "the moments of an earlier run were still there",
           "apr.train.certify:Court.judge_update", _used_before, ("S-39", "S-83")),
    _fault("moments-from-elsewhere", "optimizer.fresh", "the optimizer was built with the moments of another run",
           _BUILD, _built(_with_moments), ("S-39", "S-83")),
    _fault("not-clipped", "update.size", "the gradient was measured and not clipped", _CLIP, instead(_norm_only), ("S-63",),
           quick=True),
    _fault("clipped-by-value", "update.size", "the gradient was clipped by value", _CLIP, instead(_by_value), ("S-63",)),
    _fault("clipped-by-power", "update.size", "the gradient was divided by its norm's fourth power", _CLIP,
           instead(_fourth_power), ("S-63",)),
    _fault("clipped-by-tensor", "update.size", "every tensor was clipped alone", _CLIP, instead(_by_tensor), ("S-63",)),
    _fault("norm-invented", "update.slope", "the logged gradient norm was a constant", _CLIP, _invented, ("S-99",)),
    _fault("last-micro-batch", "update.slope", "only the last micro-batch counted", _ACCUMULATE, _last_only, ("S-64",)),
    _fault("means-of-means", "update.loss", "every micro-batch weighed alike", _ACCUMULATE, _means_of_means, ("S-130", "S-79")),
    _fault("loss-scale", "update.slope", "a loss scale was left in the gradient", _ACCUMULATE, _loss_scale, ("S-63",)),
    _fault("loss-invented", "update.loss", "the logged loss was 0.0", _ACCUMULATE, _constant_loss, ("S-67", "S-101")),
    _fault("nan-gradient", "run.steps", "one value of the gradient was NaN", _ACCUMULATE, _nan_gradient, ("S-65", "S-124")),
    _fault("gradients-kept", "update.gradients", "gradients were not cleared between steps", "torch.optim:AdamW.zero_grad",
           instead(lambda self, set_to_none=True: None), ("S-64",), quick=True),
    _fault("two-steps", "update.gradients", "one update made two steps of the optimizer", _ACCUMULATE, _stepping_too,
           ("S-128",)),
    _fault("rate-vanishes", "update.changes", "the learning rate was in another unit, and every update is rounded away",
           "apr.train.pretrain:resolve", _tiny_rate, ("S-06", "S-38")),
    _fault("parameter-lost", "update.changes", "the step left one tensor as it was", _STEP, _skips_one, ("S-43", "S-12")),
    _fault("rope-backward", "update.slope", "the rotation was left out of the backward pass", "apr.model.decoder:rotate",
           _rope_backward, ("S-48",)),
    _fault("silu-backward", "update.slope", "the activation was left out of the backward pass", "apr.model.decoder:F.silu",
           _silu_backward, ("S-44",)),
    _fault("norm-backward", "update.gradients", "the norms' weights got no gradient", "apr.model.decoder:RMSNorm.forward",
           _norm_backward, ("S-43", "S-46")),
    _fault("masked-gradient", "update.gradients", "half of the rows of one tensor were masked out of the gradient",
           _ACCUMULATE, _masked_gradient, ("S-43",)),
    _fault("cut-off", "update.gradients", "no gradient passed the feed-forward", "apr.model.decoder:MLP.forward", _cut_off,
           ("S-47", "S-49")),
    _fault("no-skip", "update.slope", "no gradient passed beside a block", "apr.model.decoder:Block.forward", _no_skip,
           ("S-47",)),
)  # fmt: skip
