"""Changes of a tensor's values, for files and for modules alike."""

from __future__ import annotations

import numpy as np


def adjacent_pairs(values: np.ndarray, head_dim: int) -> np.ndarray:
    """Rows [heads * H, ...] of split-half rotary order in the order of neighbouring pairs, as GGUF has them."""
    heads = values.reshape(-1, 2, head_dim // 2, *values.shape[1:])
    return np.ascontiguousarray(heads.swapaxes(1, 2)).reshape(values.shape)


def rounded_to_8_bits(values: np.ndarray) -> np.ndarray:
    """Values through symmetric eight-bit integers, one scale a row."""
    scale = np.abs(values).max(axis=-1, keepdims=True) / 127
    return np.asarray(np.round(values / np.where(scale == 0, 1, scale)) * scale, dtype=np.float32)


def turned(values: np.ndarray) -> np.ndarray:
    """A square matrix transposed."""
    return np.ascontiguousarray(values.T)
