"""What one forward pass over the probe is known by, and how far two of them lie apart.

Beside the figures that a reference records today stand sharper ones, to see what they would add.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from apr.stepzero.figures import block_figures, relative_difference

MANY_PROJECTIONS = 64
FEW_PROJECTIONS = 4
_LOSS_ROWS = 64  # tokens whose fp64 logits are held at once: 78 MB for 151,936 tokens

Observer = Callable[[str, Tensor], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockState:
    """One block: today's figures, the sharper ones, and (kept for a reference) the whole state."""

    figures: dict[str, Any]
    projections: np.ndarray  # [64], as today's four, but with signs of their own
    row_projections: np.ndarray  # [64], of rows scaled to unit size, so that no position outweighs the others
    row_sizes: np.ndarray  # [T], root mean square of each position
    row_values: np.ndarray  # [T], one projection of each position, in units of its size
    state_TD: np.ndarray | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A forward pass over the probe."""

    token_losses: np.ndarray  # [T - 1], nats, fp64
    blocks: tuple[BlockState, ...]


def signs(rows: int, columns: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice((-1.0, 1.0), size=(rows, columns))


def block_state(name: str, hidden_TD: Tensor, *, keep: bool) -> BlockState:
    values = hidden_TD.detach().double().numpy()
    num_tokens, width = values.shape
    of_tokens, of_channels = signs(MANY_PROJECTIONS, num_tokens, 1), signs(width, MANY_PROJECTIONS, 2)
    sizes = np.sqrt((values * values).mean(axis=1))
    unit = values / np.maximum(sizes, 1e-30)[:, None]
    scale = 1.0 / math.sqrt(num_tokens * width)
    return BlockState(
        figures=block_figures(name, hidden_TD.float()),
        projections=(of_tokens * (values @ of_channels).T).sum(axis=1) * scale,
        row_projections=(of_tokens * (unit @ of_channels).T).sum(axis=1) * scale,
        row_sizes=sizes,
        row_values=unit @ of_channels[:, 0] / math.sqrt(width),
        state_TD=values.astype(np.float32) if keep else None,
    )


def token_losses(logits_of: Callable[[slice], Tensor], ids: Sequence[int]) -> np.ndarray:
    """Losses of the tokens after the first, from fp32 logits [n, V] of the positions in a slice."""
    targets, parts = torch.tensor(list(ids[1:])), []
    for start in range(0, len(targets), _LOSS_ROWS):
        part = slice(start, min(start + _LOSS_ROWS, len(targets)))
        wide = logits_of(part).double()
        parts.append(torch.logsumexp(wide, dim=-1) - wide.gather(1, targets[part, None])[:, 0])
    return torch.cat(parts).numpy()


def finite(value: float) -> float | None:
    """Three significant digits; None (JSON has no NaN) for what is no number."""
    return float(f"{value:.3g}") if math.isfinite(value) else None


def distance(reference: Measured, found: Measured) -> dict[str, Any]:
    """How far a pass lies from a reference: each figure's worst, over blocks and positions; None is NaN."""
    tokens = np.abs(found.token_losses - reference.token_losses)
    pairs = list(zip(reference.blocks, found.blocks, strict=True))
    gaps = [relative_difference(want.figures, have.figures) for want, have in pairs]
    block = [finite(gap) for _, gap in gaps]
    worst = max(range(len(gaps)), key=lambda i: math.inf if block[i] is None else gaps[i][1])
    with np.errstate(all="ignore"):
        figures = {
            "loss": abs(float(found.token_losses.mean() - reference.token_losses.mean())),
            "token_loss_max": float(tokens.max()),
            "token_loss_rms": float(np.sqrt((tokens * tokens).mean())),
            "projections": _worst(
                pairs, lambda a, b: np.abs(a.projections - b.projections) / a.figures["std"]
            ),
            "row_projections": _worst(pairs, lambda a, b: np.abs(a.row_projections - b.row_projections)),
            "row_projections_4": _worst(
                pairs, lambda a, b: np.abs(a.row_projections - b.row_projections)[:FEW_PROJECTIONS]
            ),
            "last_row_values": _worst(pairs[-1:], lambda a, b: np.abs(a.row_values - b.row_values)),
            "row_sizes": _worst(pairs, lambda a, b: np.abs(a.row_sizes - b.row_sizes) / a.row_sizes),
            "row_values": _worst(pairs, lambda a, b: np.abs(a.row_values - b.row_values)),
            "state": _worst(pairs, _state_gap),
        }
    return {
        **{name: finite(value) for name, value in figures.items()},
        "block": block[worst],
        "block_at": reference.blocks[worst].figures["name"],
        "block_in": gaps[worst][0],
        "blocks": block,
    }


def _worst(pairs: Sequence[tuple[BlockState, BlockState]], gap: Callable[..., Any]) -> float:
    # numpy's maximum keeps a NaN, Python's may not.
    return float(np.max([np.max(gap(want, have)) for want, have in pairs]))


def _state_gap(want: BlockState, have: BlockState) -> float:
    """The whole state's difference, row by row in units of the row: what the best figure could see at all."""
    if want.state_TD is None or have.state_TD is None:
        return math.nan
    size = np.maximum(want.row_sizes, 1e-30)[:, None]
    gap = (have.state_TD.astype(np.float64) - want.state_TD) / size
    return float(np.sqrt((gap * gap).mean()))
