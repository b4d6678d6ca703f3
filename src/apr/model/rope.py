"""Rotary position embedding, rotate-half layout (Su et al. 2021, arXiv:2104.09864).

Checkpoints with Hugging Face names pair element i with i + H/2; GGUF files of the llama family pair neighbours
and are permuted back at import, so this is the only layout here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from apr.arch.config import RopeScaling, TransformerConfig


def inverse_frequencies(config: TransformerConfig) -> Tensor:
    """Return the angular frequency of each pair, fp32 [H/2], in radians a position."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.int64).float() / config.head_dim
    frequencies = 1.0 / (config.rope_theta**exponents)
    return scale_frequencies(frequencies, config.rope_scaling)


def scale_frequencies(frequencies: Tensor, scaling: RopeScaling | None) -> Tensor:
    """Stretch frequencies [H/2] as the config asks (see RopeScaling for the sources)."""
    if scaling is None:
        return frequencies
    if scaling.rope_type == "linear":
        return frequencies / scaling.factor
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    original = scaling.original_max_position_embeddings
    assert low is not None
    assert high is not None
    assert original is not None
    turns = original * frequencies / (2 * math.pi)
    keep = ((turns - low) / (high - low)).clamp(0.0, 1.0)
    return frequencies * (keep + (1 - keep) / scaling.factor)


def rope_tables(config: TransformerConfig, length: int) -> tuple[Tensor, Tensor]:
    """Return cosines and sines for positions 0..length-1, both fp32 [T, H]."""
    positions = torch.arange(length, dtype=torch.float32)
    angles = torch.outer(positions, inverse_frequencies(config))
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x_BNTH: Tensor, cos_TH: Tensor, sin_TH: Tensor) -> Tensor:
    """Turn each pair (i, i + H/2) of the last axis by its angle; same shape and dtype as the input."""
    first, second = x_BNTH.chunk(2, dim=-1)
    return x_BNTH * cos_TH + torch.cat((-second, first), dim=-1) * sin_TH
