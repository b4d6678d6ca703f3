"""Quantised blocks of GGUF: their values, and how far those may be from what was quantised."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from apr.convert.rounding import widen_bfloat16

_ROWS = 4096  # rows dequantised at once: large enough to be fast, small enough that temporaries stay small

# Quantisations that the package can dequantise. It keeps its own list private, so it is written out here: a
# type that is not in it is refused by name instead of failing inside.
DEQUANTISED = frozenset(
    {
        *("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"),
        *("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4"),
        *("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S", "IQ1_M", "IQ4_NL", "IQ4_XS"),
    }
)


def dequantise(data: np.ndarray, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Turn stored values into float32, a slab of rows at a time.

    Args:
        data: as the gguf package maps it: numbers for F32 and F16, bytes in rows for everything else.
        dtype: GGUF's name of the storage type.
        shape: of the result, outermost first.
    """
    data = np.asarray(data)  # a plain array: numpy's memory map class costs time in every small operation
    if dtype == "F32":
        return np.array(data, dtype=np.float32, order="C").reshape(shape)
    kind = GGMLQuantizationType[dtype]
    if data.ndim < 2 or len(data) <= _ROWS:
        return quants.dequantize(data, kind).reshape(shape)
    values = np.empty(shape, dtype=np.float32)
    for start in range(0, len(data), _ROWS):
        values[start : start + _ROWS] = quants.dequantize(data[start : start + _ROWS], kind)
    return values


def bits_per_weight(dtype: str) -> float:
    """Stored bits per value, scales included."""
    block, size_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[dtype]]
    return 8 * size_bytes / block


def mean_square_error(data: np.ndarray, dtype: str) -> float | None:
    """The mean square that rounding to this storage type is expected to have added to each value.

    Rounding to a grid of step s moves a value by an amount that is uniform in [-s/2, s/2], whose mean
    square is s**2 / 12. The steps are read from the blocks themselves; the result is the mean over all
    values. None for types whose grid has no one step (the IQ, ternary and four-bit float types).
    """
    if dtype == "F32":
        return _mean_square(np.spacing(np.abs(data)))
    if dtype == "F16":
        return _mean_square(np.spacing(np.abs(data)).astype(np.float32))
    if dtype == "BF16":
        values = np.abs(widen_bfloat16(data.view(np.uint16)))
        return _mean_square(np.spacing(values) * np.float32(65536))
    if dtype not in _STEPS:
        return None
    size_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[dtype]][1]
    return _mean_square(_STEPS[dtype](data.reshape(-1, size_bytes)))


def _mean_square(steps: np.ndarray) -> float:
    return float(np.mean(np.square(steps, dtype=np.float64))) / 12.0


def _half(blocks: np.ndarray, at: int) -> np.ndarray:
    return np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16).astype(np.float32)


def _steps_legacy(blocks: np.ndarray) -> np.ndarray:
    return _half(blocks, 0)  # one scale for the 32 values of a block


def _steps_q2_k(blocks: np.ndarray) -> np.ndarray:
    return _half(blocks, 80) * (blocks[:, :16] & 15)


def _steps_q3_k(blocks: np.ndarray) -> np.ndarray:
    # Sixteen 6-bit scales: low four bits in eight bytes, two to a byte; high two bits in four, four to a
    # byte.
    packed = blocks[:, 96:108]
    low = np.concatenate([packed[:, :8] & 15, packed[:, :8] >> 4], axis=1)
    high = np.concatenate([(packed[:, 8:] >> shift) & 3 for shift in (0, 2, 4, 6)], axis=1)
    return _half(blocks, 108) * ((low | (high << 4)).astype(np.int8) - np.int8(32))


def _steps_q4_q5_k(blocks: np.ndarray) -> np.ndarray:
    # Eight 6-bit scales in the first twelve bytes after the two halves, spread as in `_steps_q3_k` but not
    # alike.
    packed = blocks[:, 4:16]
    last = (packed[:, 8:] & 15) | ((packed[:, :4] >> 6) << 4)
    return _half(blocks, 0) * np.concatenate([packed[:, :4] & 63, last], axis=1)


def _steps_q6_k(blocks: np.ndarray) -> np.ndarray:
    return _half(blocks, 208) * np.ascontiguousarray(blocks[:, 192:208]).view(np.int8)


_STEPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    **dict.fromkeys(("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"), _steps_legacy),
    "Q2_K": _steps_q2_k,
    "Q3_K": _steps_q3_k,
    "Q4_K": _steps_q4_q5_k,
    "Q5_K": _steps_q4_q5_k,
    "Q6_K": _steps_q6_k,
}
