"""Stored values in fp32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apr.aprfile.blocks import widen_bf16
from apr.aprfile.errors import TensorNotFloat
from apr.aprfile.reader import open_apr

Craft = Callable[..., Path]


@given(st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=50))
def test_bfloat16_is_the_upper_half_of_fp32(bits: list[int]) -> None:
    array = np.array(bits, dtype="<u2")
    wide = widen_bf16(array)
    assert wide.dtype == np.float32
    assert (wide.view(np.uint32) == array.astype(np.uint32) << 16).all()


def test_half_precision_widens_exactly(craft: Craft) -> None:
    halves = np.array([[1.5, -(2.0**-24)], [65504, np.inf]], dtype="<f2")
    with open_apr(craft([{"name": "a", "data": halves.tobytes(), "shape": (2, 2), "code": 1}])) as file:
        assert np.array_equal(file.as_f32("a"), halves.astype(np.float64).astype(np.float32))
        assert file.as_f32("a").shape == (2, 2)


def test_fp32_is_not_copied(tiny_apr: Path) -> None:
    with open_apr(tiny_apr) as file:
        assert np.shares_memory(file.as_f32("model.norm.weight"), file.array("model.norm.weight"))


def _q4_k_blocks(count: int, seed: int) -> np.ndarray:
    chance = np.random.default_rng(seed)
    blocks = chance.integers(0, 256, (count, 144), dtype=np.uint8)
    blocks[:, :4] = np.array([0.01, 0.02], dtype="<f2").view(np.uint8)
    return blocks


def _q4_k_values(block: np.ndarray) -> np.ndarray:
    """The definition, element by element: 8 sub-blocks of 32, six-bit scales and minima."""
    d, minimum = (float(x) for x in block[:4].view("<f2"))
    packed, nibbles, values = block[4:16].astype(int), block[16:].astype(int), []
    for part in range(8):
        if part < 4:
            scale, low = packed[part] & 63, packed[part + 4] & 63
        else:
            scale = (packed[part + 4] & 15) | (packed[part - 4] >> 6) << 4
            low = (packed[part + 4] >> 4) | (packed[part] >> 6) << 4
        run = nibbles[32 * (part // 2) : 32 * (part // 2) + 32]
        quants = run & 15 if part % 2 == 0 else run >> 4
        values.append(d * scale * quants - minimum * low)
    return np.concatenate(values)


def test_k_quants_are_dequantised_by_their_definition(craft: Craft) -> None:
    blocks = _q4_k_blocks(4, seed=1)
    tensor = {"name": "a", "data": blocks.tobytes(), "shape": (2, 512), "code": 12}
    with open_apr(craft([tensor])) as file:
        expected = np.concatenate([_q4_k_values(block) for block in blocks]).reshape(2, 512)
        np.testing.assert_allclose(file.as_f32("a"), expected, rtol=1e-5, atol=1e-5)
        assert file.array("a").dtype == np.uint8


@pytest.mark.parametrize(("blocks", "is_padded"), [(2, False), (3, True)])
def test_uneven_rows_are_told_apart_by_size(craft: Craft, blocks: int, is_padded: bool) -> None:
    stored = _q4_k_blocks(blocks, seed=2)
    tensor = {"name": "a", "data": stored.tobytes(), "shape": (3, 100), "code": 12}
    flat = np.concatenate([_q4_k_values(block) for block in stored])
    expected = flat.reshape(3, 256)[:, :100] if is_padded else flat[:300].reshape(3, 100)
    with open_apr(craft([tensor])) as file:
        np.testing.assert_allclose(file.as_f32("a"), expected, rtol=1e-5, atol=1e-5)


def test_rows_that_fit_two_encodings_are_not_guessed(craft: Craft) -> None:
    tensor = {"name": "a", "data": _q4_k_blocks(2, 3).tobytes(), "shape": (2, 255), "code": 12}
    with open_apr(craft([tensor])) as file, pytest.raises(TensorNotFloat):
        file.as_f32("a")


@pytest.mark.parametrize(("code", "data"), [(5, bytes(16)), (7, bytes(2)), (129, bytes(6)), (3, bytes(16))])
def test_other_types_are_not_widened(craft: Craft, code: int, data: bytes) -> None:
    with open_apr(craft([{"name": "a", "data": data, "shape": (2,), "code": code}])) as file:
        assert bytes(file.bytes_of("a")) == data
        with pytest.raises(TensorNotFloat):
            file.as_f32("a")
