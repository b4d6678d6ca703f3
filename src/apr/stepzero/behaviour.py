"""What any causal language model must do, whatever its weights: repeat itself, not see the future, not mix its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import torch
from torch import Tensor

from apr.stepzero.gate import GateResult, timed, verdict_of

# ids int64 [B, T] -> final hidden states or logits [B, T, *]
Forward = Callable[[Tensor], Tensor]

BEHAVIOUR_TOKENS = 48
# Share of the standard deviation of the outputs. Another batch shape may choose another kernel, which moves a block by
# 2e-6 in fp32 and 4e-2 in bf16 (docs/tolerance.md); rows that see each other move by about 1.
ROW_TOLERANCE = {"fp32": 1e-3, "bf16": 0.25}


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviourProbe:
    """Two sequences, the first of them with two ends: ids int64 [1, T]."""

    first: Tensor
    other_end: Tensor  # as `first`, with another id at each position of its last quarter
    second: Tensor
    shared: int  # positions that `first` and `other_end` have in common


def behaviour_probe(ids: Sequence[int]) -> BehaviourProbe:
    """Cut the probe's ids into two sequences of BEHAVIOUR_TOKENS, or of half of them where there are fewer."""
    length = max(1, min(BEHAVIOUR_TOKENS, len(ids) // 2))
    first = torch.tensor([list(ids[:length])], dtype=torch.int64)
    second = torch.tensor([list(ids[-length:])], dtype=torch.int64)
    other_end = first.clone()
    quarter = max(1, length // 4)
    before, after = first[0, -quarter:], second[0, :quarter]
    # An id that happens to be the same would change nothing.
    other_end[0, -quarter:] = torch.where(after == before, (before - 1).abs(), after)
    return BehaviourProbe(first=first, other_end=other_end, second=second, shared=length - quarter)


@torch.no_grad()
def behaviour_gates(
    forward: Forward, ids: Sequence[int], dtype: str, length: int | None = None
) -> list[GateResult]:
    """Judge repeatability, causality and independence of rows.

    Args:
        forward: the model as it will be trained, in its compute type.
        ids: plausible token ids.
        dtype: compute type, `fp32` or `bf16`.
        length: tokens of a training window; causality is asked at that
            length too, since a mask may hold at one only.
    """
    probe = behaviour_probe(ids)
    once = forward(probe.first).double().cpu()
    if not torch.isfinite(once).all():  # nothing else can be told of such outputs
        return [_not_finite(once)]
    return [
        timed(lambda: _repeatable(once, forward(probe.first).double().cpu())),
        timed(lambda: _causal_at(forward, ids, probe, once, length or 0)),
        timed(lambda: _rows(once, forward, probe, ROW_TOLERANCE[dtype])),
    ]


def _causal_at(
    forward: Forward, ids: Sequence[int], probe: BehaviourProbe, once: Tensor, length: int
) -> GateResult:
    short = _causal(once, forward(probe.other_end).double().cpu(), probe.shared)
    if short.verdict == "no" or length <= probe.first.shape[1]:
        return short
    whole = torch.tensor([list(islice(cycle(ids), length))], dtype=torch.int64)
    other, shared = whole.clone(), length - max(1, length // 4)
    other[0, shared:] = whole[0, shared:].flip(0)
    other[0, -1] = other[0, -1] - 1 if int(other[0, -1]) else 1  # a palindrome would change nothing
    return _causal(forward(whole).cpu(), forward(other).cpu(), shared)


def _not_finite(once: Tensor) -> GateResult:
    share = 1 - float(torch.isfinite(once).double().mean())
    return GateResult(
        id="model.repeatable",
        claim="two evaluations of the same tokens are equal bit for bit",
        verdict="no",
        figure="not finite",
        limit=0,
        cause=f"{share:.1%} of the outputs are NaN or infinite",
    )


def _repeatable(once: Tensor, again: Tensor) -> GateResult:
    equal = torch.equal(once, again)
    return GateResult(
        id="model.repeatable",
        claim="two evaluations of the same tokens are equal bit for bit",
        verdict=verdict_of(equal),
        figure=_greatest(once - again),
        limit=0,
        cause=""
        if equal
        else "something random is active, such as dropout, or a kernel is not deterministic",
    )


def _causal(once: Tensor, changed: Tensor, shared: int) -> GateResult:
    gap = _greatest(once[:, :shared] - changed[:, :shared])
    moved = _greatest(once[:, shared:] - changed[:, shared:])
    holds = gap == 0.0 and moved > 0.0
    cause = ""
    if gap != 0.0:
        cause = (
            f"other tokens from position {shared} on change the outputs before it: the causal mask is wrong"
        )
    elif not moved > 0.0:
        cause = "a change of the tokens changes nothing: the model does not read its input"
    return GateResult(
        id="model.causal",
        claim="a later token changes no earlier output",
        verdict=verdict_of(holds),
        figure=gap,
        limit=0,
        cause=cause,
        facts={"num_positions": shared, "change_behind": moved},
    )


def _rows(once: Tensor, forward: Forward, probe: BehaviourProbe, limit: float) -> GateResult:
    both = forward(torch.cat([probe.first, probe.second])).double().cpu()
    other = forward(probe.second).double().cpu()
    size = max(float(once.std()), 1e-12)  # outputs that are all alike are model.causal's
    gap = _greatest(both - torch.cat([once, other])) / size
    holds = gap <= limit
    return GateResult(
        id="model.rows",
        claim="a sequence gives the same alone and in a batch",
        verdict=verdict_of(holds),
        figure=gap,
        limit=limit,
        cause="" if holds else "the rows of a batch influence each other, or only the first is computed",
        facts={"unit": "of the outputs' standard deviation"},
    )


def _greatest(difference: Tensor) -> float:
    return float(difference.abs().max()) if difference.numel() else 0.0
