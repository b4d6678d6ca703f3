"""Values of stored tensors in fp32."""

from __future__ import annotations

import numpy as np

from apr.aprfile.errors import TensorNotFloat
from apr.aprfile.index import TensorEntry
from apr.aprfile.layout import DTYPES, num_elements


def widen(array: np.ndarray, entry: TensorEntry, path: str) -> np.ndarray:
    """Widen a stored tensor to fp32: F32 as it is, F16 and BF16 exactly, Q4_K and Q6_K by their definition.

    Args:
        array: what `AprFile.array` gives.
        entry: the tensor's dtype and shape.
        path: for messages.

    Raises:
        TensorNotFloat: another dtype, or blocks whose rows cannot be told.
    """
    if entry.dtype == "F32":
        return array
    if entry.dtype == "F16":
        return array.astype(np.float32)
    if entry.dtype == "BF16":
        return widen_bf16(array)
    if entry.dtype in ("Q4_K", "Q6_K"):
        return _dequantise(array, entry, path)
    raise TensorNotFloat(
        path=path, tensor=entry.name, dtype=entry.dtype, reason="only floats and K-quants are read"
    )


def widen_bf16(bits: np.ndarray) -> np.ndarray:
    """fp32 values of bfloat16 bits: bfloat16 is the upper half of fp32, so this is exact."""
    wide = np.empty(bits.shape, dtype=np.uint32)
    np.left_shift(bits, 16, out=wide, dtype=np.uint32)
    return wide.view(np.float32)


def _dequantise(array: np.ndarray, entry: TensorEntry, path: str) -> np.ndarray:
    # Imported here because quantised tensors are rare and the package takes a quarter of a second to load.
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    values = dequantize(np.asarray(array), GGMLQuantizationType[entry.dtype]).reshape(-1)
    columns = entry.shape[-1] if entry.shape else 1
    if columns % 256 == 0 or len(entry.shape) < 2 or num_elements(entry.shape[:-1]) == 1:
        return values[: num_elements(entry.shape)].reshape(entry.shape)
    return _unpad_rows(values, entry, path)


def _unpad_rows(values: np.ndarray, entry: TensorEntry, path: str) -> np.ndarray:
    dtype, rows = DTYPES[entry.dtype], num_elements(entry.shape[:-1])
    flat = dtype.size_bytes(num_elements(entry.shape))
    padded = rows * dtype.size_bytes(entry.shape[-1])
    if flat == padded:
        reason = "its rows are no whole blocks, and its size fits two encodings"
        raise TensorNotFloat(path=path, tensor=entry.name, dtype=entry.dtype, reason=reason)
    if entry.size_bytes == flat:
        return values[: num_elements(entry.shape)].reshape(entry.shape)
    return values.reshape(rows, -1)[:, : entry.shape[-1]].reshape(entry.shape)
