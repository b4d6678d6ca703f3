from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from apr.convert.errors import DtypeOverflows
from apr.convert.rounding import bfloat16_bits, round_to, widen

TORCH = {"BF16": torch.bfloat16, "F16": torch.float16}
# Halves of the last place on even and odd neighbours, just beside them, subnormals, signed zero, the largest.
EDGES = [0x3F808000, 0x3F818000, 0x3F807FFF, 0x3F808001, 0x00000001, 0x00008000, 0x00018000, 0x80000000]
EDGES += [0x7F7F0000, 0x7F7F7FFF, 0xFF7F7FFF, 0x477FE000, 0x477FEFFF, 0x33000000, 0x33000001, 0x387FC000]


def by_torch(values: np.ndarray, dtype: str) -> np.ndarray:
    rounded = torch.from_numpy(values.copy()).to(TORCH[dtype])
    return rounded.view(torch.uint16).numpy()


@pytest.mark.parametrize("bits", EDGES, ids=hex)
def test_bfloat16_rounds_as_torch_does_at_the_edges(bits):
    value = np.array([bits], dtype=np.uint32).view(np.float32)
    np.testing.assert_array_equal(bfloat16_bits(value), by_torch(value, "BF16"))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=64))
def test_bfloat16_rounds_as_torch_does(values):
    array = np.array(values, dtype=np.float32)
    np.testing.assert_array_equal(bfloat16_bits(array), by_torch(array, "BF16"))


@given(st.lists(st.floats(-65504, 65504, width=32), min_size=1, max_size=64))
def test_float16_rounds_as_torch_does(values):
    array = np.array(values, dtype=np.float32)
    np.testing.assert_array_equal(round_to(array, "F16", "t").view(np.uint16), by_torch(array, "F16"))


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_rounding_twice_is_rounding_once(dtype):
    values = np.random.default_rng(0).normal(0, 1, (33, 7)).astype(np.float32)
    once = widen(round_to(values, dtype, "t"), dtype)
    np.testing.assert_array_equal(widen(round_to(once, dtype, "t"), dtype), once)
    assert once.dtype == np.float32
    assert once.shape == values.shape


@pytest.mark.parametrize(
    ("dtype", "fits", "beyond"), [("F16", 65519.0, -65520.0), ("BF16", 3.39e38, 3.4e38), ("F16", 1.0, 3e38)]
)
def test_a_value_beyond_the_range_is_refused(dtype, fits, beyond):
    round_to(np.array([0.0, fits], np.float32), dtype, "t")
    with pytest.raises(DtypeOverflows) as caught:
        round_to(np.array([0.0, beyond], np.float32), dtype, "model.norm.weight")
    assert caught.value.tensor == "model.norm.weight"
    assert caught.value.value == pytest.approx(beyond, rel=1e-5)
