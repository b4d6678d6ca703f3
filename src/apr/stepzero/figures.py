"""Figures of a hidden state that another implementation must reproduce.

Mean, standard deviation and largest magnitude notice a wrong scale; random projections with a sign per position and
per channel notice anything that moves values about: another rope layout, exchanged heads, shifted positions.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
from torch import Tensor

NUM_PROJECTIONS = 4


def block_figures(name: str, hidden_TD: Tensor) -> dict[str, Any]:
    """Summarise a hidden state [T, D] in fp64: {name, mean, std, absmax, projections[4]}."""
    values = hidden_TD.detach().cpu().double().numpy()
    num_tokens, width = values.shape
    scale = 1.0 / np.sqrt(num_tokens * width)
    return {
        "name": name,
        "mean": float(values.mean()),
        "std": float(values.std()),
        "absmax": float(np.abs(values).max()),
        # sqrt(T D) normalises: the projection of independent values of size s is about s.
        "projections": [
            float(_signs(f"token-{k}", num_tokens) @ values @ _signs(f"channel-{k}", width) * scale)
            for k in range(NUM_PROJECTIONS)
        ],
    }


def _signs(label: str, length: int) -> np.ndarray:
    """A fixed vector of +1 and -1: bits of SHAKE-256, the same on every machine and in every version."""
    digest = hashlib.shake_256(f"apr-projection:{label}".encode()).digest((length + 7) // 8)
    bits = np.unpackbits(np.frombuffer(digest, dtype=np.uint8))[:length]
    return bits.astype(np.float64) * 2.0 - 1.0


def relative_difference(expected: dict[str, Any], found: dict[str, Any]) -> tuple[str, float]:
    """The figure that differs most, as (its name, difference over the expected standard deviation)."""
    size = max(expected["std"], 1e-12)
    pairs = [(key, expected[key], found[key]) for key in ("mean", "std")]
    # A maximum is one value of millions: it is compared with itself.
    gaps = [(key, abs(a - b) / size) for key, a, b in pairs]
    gaps.append(("absmax", abs(expected["absmax"] - found["absmax"]) / max(expected["absmax"], 1e-12)))
    for k, (a, b) in enumerate(zip(expected["projections"], found["projections"], strict=True)):
        gaps.append((f"projection {k}", abs(a - b) / size))
    # A NaN compares with nothing: without its own rank a later figure would hide it.
    return max(gaps, key=lambda gap: math.inf if math.isnan(gap[1]) else gap[1])
