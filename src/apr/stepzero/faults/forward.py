"""Faults of the forward pass: the weights are right, and what is computed from them is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from apr.stepzero.faults.fault import Fault, Patch

_DECODER = "apr.model.decoder"


def _fault(
    name: str,
    gate: str,
    says: str,
    targets: str | tuple[str, ...],
    wrap: Callable[[Any], Any],
    imitates: tuple[str, ...],
    **more: Any,
) -> Fault:
    places = (targets,) if isinstance(targets, str) else targets
    return Fault(
        id=f"forward.{name}", imitates=imitates, place="forward", gate=gate, says=says,
        patches=tuple(Patch(target=target, wrap=wrap) for target in places), **more,
    )  # fmt: skip


def instead(replacement: Callable[..., Any]) -> Callable[[Any], Any]:
    """Put a function in the place of the original."""
    return lambda original: replacement


def before(change: Callable[..., tuple[Any, ...]]) -> Callable[[Any], Any]:
    """Change a function's positional arguments."""
    return lambda original: lambda *args, **kwargs: original(*change(*args), **kwargs)


def behind(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Change a function's result."""
    return lambda original: lambda *args, **kwargs: change(original(*args, **kwargs))


def _neighbours(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    c, s = cos[..., :half], sin[..., :half]
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * c - odd * s, even * s + odd * c), dim=-1).flatten(-2)


def _partial(original: Any) -> Any:
    def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        turned = original(x, cos, sin)
        quarter = x.shape[-1] // 4
        return torch.cat((x[..., :quarter], turned[..., quarter:]), dim=-1)

    return rotate


def _other_base(original: Any) -> Any:
    def tables(config: Any, length: int) -> Any:
        H = config.head_dim
        positions = torch.arange(length, dtype=torch.float32)
        angles = torch.outer(positions, (config.rope_theta * 2) ** (-torch.arange(0, H, 2).float() / H))
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos(), angles.sin()

    return tables


def _from_one(original: Any) -> Any:
    def tables(config: Any, length: int) -> Any:
        cos, sin = original(config, length + 1)
        return cos[1:], sin[1:]

    return tables


def _fixed_eps(original: Any) -> Any:
    """A norm whose epsilon is a constant of the code."""

    def init(self: Any, size: int, eps: float) -> None:
        original(self, size, 1e-5 if eps == 1e-6 else 1e-6)

    return init


def _sdpa(change: Callable[[dict[str, Any], tuple[Tensor, ...]], tuple[Tensor, ...]]) -> Callable[[Any], Any]:
    def wrap(original: Any) -> Any:
        def attend(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
            q, k, v = change(options, (q, k, v))
            out: Tensor = original(q, k, v, **options)
            return out

        return attend

    return wrap


def _see_everything(options: dict[str, Any], qkv: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    options["is_causal"] = False
    return qkv


def _see_when_short(options: dict[str, Any], qkv: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A kernel that masks whole blocks of 32, and of a block that is not full nothing."""
    return _see_everything(options, qkv) if 32 < qkv[0].shape[-2] < 64 else qkv


def _see_next(options: dict[str, Any], qkv: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    T = qkv[0].shape[-2]
    options["is_causal"] = False
    options["attn_mask"] = torch.ones(T, T, dtype=torch.bool, device=qkv[0].device).tril(1)
    return qkv


def _see_little(options: dict[str, Any], qkv: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    T = qkv[0].shape[-2]
    options["is_causal"] = False
    options["attn_mask"] = torch.ones(T, T, dtype=torch.bool, device=qkv[0].device).tril().triu(-(T // 4))
    return qkv


def _scaled(options: dict[str, Any], qkv: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    options["scale"] = 1.02 * qkv[0].shape[-1] ** -0.5
    return qkv


def _other_groups(options: dict[str, Any], qkv: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Query head n reads key-value head n % K: the heads were repeated as a whole instead of one by one."""
    q, k, v = qkv
    same = [n for n in range(1, k.shape[1]) if torch.equal(k[:, n], k[:, 0])]
    groups = len(same) + 1
    order = torch.arange(k.shape[1]).view(-1, groups).T.reshape(-1)
    return q, k[:, order], v[:, order]


def _dropping(options: dict[str, Any], qkv: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    options["dropout_p"] = 0.1
    return qkv


def _no_bias(original: Any) -> Any:
    def forward(self: Any, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))

    return forward


def _no_residual(original: Any) -> Any:
    """A block whose feed-forward does not add to its input."""

    def forward(self: Any, x: Tensor, rope: Any, cache: Any, layer: int, mask: Any = None) -> Tensor:
        out: Tensor = original(self, x, rope, cache, layer, mask)
        return out - x if layer == 1 else out

    return forward


def _first_row_only(original: Any) -> Any:
    """A fused norm that handles the first row of a batch."""

    def forward(self: Any, x: Tensor) -> Tensor:
        out: Tensor = original(self, x)
        return torch.cat((out[:1], x[1:]), dim=0) if x.dim() == 3 else out

    return forward


def _race(hidden: Tensor) -> Tensor:
    """The last position is read while it is written: a rounding's worth, another each time."""
    noise = torch.zeros_like(hidden)
    noise[:, -1] = 1e-5 * torch.randn_like(hidden[:, -1])
    return hidden + noise


def _mixed_rows(hidden: Tensor) -> Tensor:
    return hidden + 0.01 * hidden.mean(dim=0, keepdim=True) if hidden.shape[0] > 1 else hidden


def _noisy(hidden: Tensor) -> Tensor:
    return hidden + 1e-3 * torch.randn_like(hidden)


def _one_type(original: Any) -> Any:
    """Compute in another type than was asked for."""

    def hidden(self: Any, ids: Tensor, **options: Any) -> Tensor:
        asked = options.get("dtype", torch.float32)
        options["dtype"] = torch.bfloat16 if asked == torch.float32 else torch.float32
        out: Tensor = original(self, ids, **options)
        return out

    return hidden


def _no_final_norm(original: Any) -> Any:
    """The final norm passes its input on."""

    def init(self: Any, config: Any) -> None:
        original(self, config)
        self.norm.forward = lambda x: x

    return init


def _multiplied(original: Any) -> Any:
    """Logits with the multiplier of another family."""

    def tracer(decoder: Any) -> Any:
        trace = original(decoder)
        return lambda ids, observe: 0.5 * trace(ids, observe)

    return tracer


def _shift_again(hidden: Tensor, head: Tensor, targets: Tensor, scale: float) -> tuple[Any, ...]:
    return hidden, head, torch.cat((targets[:, 1:], torch.full_like(targets[:, :1], -100)), dim=1), scale


def _no_shift(hidden: Tensor, head: Tensor, targets: Tensor, scale: float) -> tuple[Any, ...]:
    return hidden, head, torch.cat((torch.full_like(targets[:, :1], -100), targets[:, :-1]), dim=1), scale


def _fewer_words(hidden: Tensor, head: Tensor, targets: Tensor, scale: float) -> tuple[Any, ...]:
    """A softmax over a part of the vocabulary: the lanes that hold a whole warp."""
    kept = head.shape[0] // 64 * 64 - 64
    return hidden, head[:kept], torch.where(targets < kept, targets, -100), scale


def _validation(value: float, *, first: bool) -> Callable[[Any], Any]:
    """Let the validation give a fixed loss: of the random-weights control, which comes first, or of the checkpoint."""

    def wrap(original: Any) -> Any:
        calls = 0

        def loss(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            found = original(*args, **kwargs)
            return replace(found, loss=value) if first == (calls == 1) else found

        return loss

    return wrap


_ATTEND = "apr.model.decoder:F.scaled_dot_product_attention"
_HIDDEN = "apr.model.decoder:Decoder.hidden"
_NORM = "apr.model.decoder:RMSNorm.forward"
# One function, looked up in evaluation and in training.
_CROSS_ENTROPY = ("apr.model.adapters:next_token_loss", "apr.train.loop:next_token_loss")

FORWARD_FAULTS: tuple[Fault, ...] = (
    _fault("no-rope", "reference.blocks", "positions were not turned at all", f"{_DECODER}:rotate",
           instead(lambda x, cos, sin: x), ("S-50",), quick=True),
    _fault("neighbours", "reference.blocks", "neighbouring elements were turned instead of halves", f"{_DECODER}:rotate",
           instead(_neighbours), ("S-51",)),
    _fault("partial-rope", "reference.blocks", "only a part of each head was turned", f"{_DECODER}:rotate", _partial,
           ("S-62",)),
    _fault("rope-base", "model.built", "the rotary tables had another base than the config", f"{_DECODER}:rope_tables",
           _other_base, ("S-53",), quick=True),
    _fault("from-one", "model.built", "positions began at one", f"{_DECODER}:rope_tables", _from_one, ("S-53",),
           needs=lambda c: c.max_position_embeddings > 512),
    _fault("epsilon", "model.built", "the norms' epsilon was a constant of the code", f"{_DECODER}:RMSNorm.__init__",
           _fixed_eps, ("S-52",), quick=True),
    _fault("no-bias", "reference.blocks", "the biases were not added", f"{_DECODER}:Linear.forward", _no_bias, ("S-54",),
           needs=lambda c: c.attention_bias),
    _fault("no-mask", "model.causal", "attention had no causal mask", _ATTEND, _sdpa(_see_everything), ("S-55",),
           quick=True),
    _fault("no-mask-when-short", "model.causal", "sequences that fill no whole block had no causal mask", _ATTEND,
           _sdpa(_see_when_short), ("S-55",)),
    _fault("mask-off-by-one", "model.causal", "attention saw the next token", _ATTEND, _sdpa(_see_next), ("S-55",)),
    _fault("short-window", "reference.blocks", "attention saw the last quarter only", _ATTEND, _sdpa(_see_little),
           ("S-55",)),
    _fault("attention-scale", "reference.blocks", "attention was scaled 2 % too much", _ATTEND, _sdpa(_scaled), ("S-60",)),
    _fault("groups", "reference.blocks", "query heads read other key-value heads", _ATTEND, _sdpa(_other_groups),
           ("S-54", "S-125"), needs=lambda c: 1 < c.num_key_value_heads < c.num_attention_heads),
    _fault("dropout", "model.repeatable", "dropout was active", _ATTEND, _sdpa(_dropping), ("S-134",), quick=True),
    _fault("race", "model.repeatable", "the last position raced a copy", _HIDDEN, behind(_race), ("S-59",)),
    _fault("noise", "model.repeatable", "two kernels raced each other", _HIDDEN, behind(_noisy), ("S-59", "S-68")),
    _fault("activation", "reference.blocks", "the activation was GELU", f"{_DECODER}:F.silu",
           instead(F.gelu), ("S-125",), quick=True),
    _fault("no-residual", "reference.blocks", "a block did not add to its input", f"{_DECODER}:Block.forward", _no_residual,
           ("S-47",)),
    _fault("first-row", "model.rows", "only the first row of a batch was normalised", _NORM, _first_row_only, ("S-58",),
           quick=True),
    _fault("mixed-rows", "model.rows", "the rows of a batch were mixed", _HIDDEN, behind(_mixed_rows), ("S-58",)),
    _fault("no-final-norm", "reference.blocks", "the final norm was skipped", f"{_DECODER}:Trunk.__init__", _no_final_norm,
           ("S-125",)),
    _fault("transposed-product", "reference.blocks", "a product read a square weight the other way",
           f"{_DECODER}:Linear.forward",
           instead(lambda self, x: F.linear(x, self.weight.T.to(x.dtype) if self.weight.shape[0] == self.weight.shape[1]
                                            else self.weight.to(x.dtype),
                                            None if self.bias is None else self.bias.to(x.dtype))),
           ("S-57",), needs=lambda c: c.num_attention_heads * c.head_dim == c.hidden_size),
    _fault("other-type", "model.placement", "the compute type was not the one asked for", _HIDDEN, _one_type, ("S-02", "S-07"),
           quick=True),
    _fault("logits-halved", "reference.loss", "the logits were multiplied as another family's are", "apr.train.certify:tracer", _multiplied,
           ("S-125",)),
    _fault("loss-shifted-twice", "reference.training", "the targets were shifted twice", _CROSS_ENTROPY,
           before(_shift_again), ("S-80",), quick=True),
    _fault("loss-not-shifted", "reference.training", "the targets were not shifted", _CROSS_ENTROPY, before(_no_shift),
           ("S-80",)),
    _fault("loss-in-bits", "reference.training", "the loss was in bits", _CROSS_ENTROPY,
           behind(lambda loss: loss / 0.6931471805599453), ("S-76",)),
    _fault("loss-of-a-part", "reference.training", "the softmax left out a part of the vocabulary", _CROSS_ENTROPY,
           before(_fewer_words), ("S-60",), needs=lambda c: c.vocab_size < 1000),
    _fault("placeholder", "loss.random_init", "an exhausted validation stream gave a placeholder of 1.0",
           "apr.train.certify:validation_loss", _validation(1.0, first=True), ("S-70",)),
    _fault("too-good", "loss.step0", "the validation loss was 0.0008", "apr.train.certify:validation_loss", _validation(0.0008, first=False),
           ("S-74",)),
    _fault("too-bad", "loss.step0", "the validation loss was 17.22", "apr.train.certify:validation_loss", _validation(17.22, first=False),
           ("S-75", "S-54")),
)  # fmt: skip
