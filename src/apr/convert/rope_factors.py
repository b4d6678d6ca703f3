"""Llama 3's rotary scaling, found again from the factors that GGUF stores in its place.

GGUF keeps one divisor for each rotary frequency and not the four parameters they came from. Two sets have
been published; a tensor that neither of them gives is refused, because a wrong scaling changes the loss by
tenths of a nat and shows nowhere.
"""

from __future__ import annotations

import math

import numpy as np

from apr.arch.config import RopeScaling
from apr.convert.errors import RopeFactorsUnknown
from apr.convert.rounding import significant

PUBLISHED = tuple(
    RopeScaling(
        rope_type="llama3",
        factor=factor,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=8192,
    )
    for factor in (8.0, 32.0)  # Llama 3.1 and 3.3; Llama 3.2
)
# Relative: the stored factors were computed in fp32, and the two sets differ by a factor of 4.
_TOLERANCE = 1e-4


def llama3_factors(scaling: RopeScaling, rope_theta: float, head_dim: int) -> np.ndarray:
    """The divisor of each rotary frequency under Llama 3's scaling (arXiv:2407.21783).

    Wavelengths above original / low are divided by `factor`, those below original / high are kept, and
    between them 1/divisor goes linearly in original / wavelength from 1/factor to 1.

    Returns:
        float64, shape (H/2,).
    """
    original = scaling.original_max_position_embeddings
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    if original is None or low is None or high is None:  # `parse_rope_scaling` lets no such llama3 through
        raise TypeError("not a llama3 scaling")
    frequencies = rope_theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    turns = original * frequencies / (2 * math.pi)
    share = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return 1.0 / ((1.0 - share) / scaling.factor + share)


def find_llama3_scaling(
    factors: np.ndarray, rope_theta: float, head_dim: int, source: str, tensor: str
) -> RopeScaling:
    """The published scaling that gives these factors.

    Args:
        factors: the stored divisors, shape (H/2,).
        rope_theta: the rotary base.
        head_dim: H.
        source: where the tensor came from, for messages.
        tensor: its name there, for messages.

    Raises:
        RopeFactorsUnknown: none does.
    """
    errors = [_largest_error(factors, llama3_factors(known, rope_theta, head_dim)) for known in PUBLISHED]
    best = int(np.argmin(errors))
    if errors[best] > _TOLERANCE:
        tried = ", ".join(f"llama3 with factor {known.factor:g}" for known in PUBLISHED)
        raise RopeFactorsUnknown(
            source=source, tensor=tensor, tried=tried, error=significant(errors[best], 2)
        )
    return PUBLISHED[best]


def _largest_error(found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape != expected.shape or not np.isfinite(found).all():
        return math.inf
    return float(np.max(np.abs(found / expected - 1.0)))
