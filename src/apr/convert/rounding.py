"""Rounding to the dtypes that a file is written in, in numpy alone."""

from __future__ import annotations

import numpy as np

from apr.convert.errors import DtypeOverflows

# The least magnitude that rounds to infinity: half a step above the largest finite value.
_OVERFLOW_AT = {"F16": 65520.0, "BF16": float(np.uint32(0x7F7F8000).view(np.float32))}
_SLAB = 1 << 18  # values rounded at once, so that the steps of one slab find it in the processor's cache


def significant(value: float, digits: int = 3) -> float:
    """Round to so many significant digits, for figures that people read."""
    return float(f"{value:.{digits}g}")


def bfloat16_bits(values: np.ndarray) -> np.ndarray:
    """Round finite float32 values to bfloat16, to nearest and ties to even.

    bfloat16 is the upper half of a float32. Adding 0x7FFF, plus one when the bit that will be the last is
    set, carries into the upper half exactly when the lower half is above the middle, or on it with an odd
    upper half.

    Returns:
        uint16, in the same shape; a value beyond the largest bfloat16 becomes infinite, as IEEE rounding
        says.
    """
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32).reshape(-1)
    rounded = np.empty(bits.shape, dtype=np.uint16)
    for start in range(0, bits.size, _SLAB):
        slab = bits[start : start + _SLAB]
        carried = slab >> np.uint32(16)
        carried &= np.uint32(1)
        carried += np.uint32(0x7FFF)
        carried += slab
        carried >>= np.uint32(16)
        rounded[start : start + _SLAB] = carried
    return rounded.reshape(values.shape)


def widen_bfloat16(bits: np.ndarray) -> np.ndarray:
    """Widen bfloat16 values, given as uint16, to float32; exact."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def round_to(values: np.ndarray, dtype: str, name: str) -> np.ndarray:
    """Round float32 values to a dtype that a file can hold.

    Args:
        values: float32, finite.
        dtype: `F32`, `F16` or `BF16`.
        name: the tensor's, for messages.

    Returns:
        float32, float16, or uint16 for BF16, in the same shape.

    Raises:
        DtypeOverflows: a finite value would become infinite.
    """
    if dtype == "F32":
        return np.ascontiguousarray(values, dtype=np.float32)
    low, high = extremes(values)
    worst = low if -low > high else high
    if abs(worst) >= _OVERFLOW_AT[dtype]:
        limit = significant(_OVERFLOW_AT[dtype], 6)
        raise DtypeOverflows(tensor=name, value=significant(worst, 6), dtype=dtype, limit=limit)
    return bfloat16_bits(values) if dtype == "BF16" else values.astype(np.float16)


def extremes(values: np.ndarray) -> tuple[float, float]:
    """The least and the greatest value; both are NaN where any value is."""
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)


def widen(stored: np.ndarray, dtype: str) -> np.ndarray:
    """Turn stored `F32`, `F16` or `BF16` values back into float32; exact."""
    return widen_bfloat16(stored) if dtype == "BF16" else stored.astype(np.float32, copy=False)
