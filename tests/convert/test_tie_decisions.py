from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize

from apr.arch.inventory import EMBEDDING, HEAD
from apr.convert.errors import TensorNotFinite, TieImpossible, TieUndecided
from apr.convert.gguf_blocks import mean_square_error
from apr.convert.source import open_source

ROUNDINGS = [
    ("Q5_0", "Q8_0"),
    ("Q8_0", "Q5_0"),
    ("Q8_0", "F16"),
    ("F16", "BF16"),
    ("Q4_0", "Q8_0"),
    ("F32", "F32"),
]


@pytest.fixture
def two_matrices(make_gguf, kit):
    def make(dtypes, head=None, tie="auto"):
        config = replace(kit.LLAMA, tie_word_embeddings=False)
        tensors = kit.random_tensors(config)
        tensors[HEAD] = tensors[EMBEDDING] if head is None else head(tensors[EMBEDDING])
        stored_as = dict(zip((EMBEDDING, HEAD), dtypes, strict=True))
        return open_source(str(make_gguf(config, tensors, dtypes=stored_as)), tie=tie), tensors

    return make


@pytest.mark.parametrize("dtypes", ROUNDINGS)
def test_two_roundings_of_one_matrix_are_one(two_matrices, dtypes):
    source, _ = two_matrices(dtypes)
    assert source.tie.tied
    assert source.config.tie_word_embeddings
    assert HEAD not in source.tensors
    assert source.tie.figures["rms_difference"] <= 1.5 * source.tie.figures["expected_rms"]


@pytest.mark.parametrize("dtypes", ROUNDINGS)
def test_two_matrices_are_two(two_matrices, dtypes):
    rng = np.random.default_rng(5)
    source, tensors = two_matrices(
        dtypes, head=lambda rows: rng.normal(0, 0.05, rows.shape).astype(np.float32)
    )
    assert not source.tie.tied
    assert not source.config.tie_word_embeddings
    assert abs(source.tie.figures["mean_row_cosine"]) < 0.1
    kind = GGMLQuantizationType[dtypes[1]]
    expected = dequantize(quantize(tensors[HEAD], kind), kind)
    np.testing.assert_array_equal(source.tensors[HEAD].load(), expected)


@pytest.mark.parametrize(("dtypes", "kept"), [(("Q5_0", "Q8_0"), "Q8_0"), (("Q8_0", "Q5_0"), "Q8_0")])
@pytest.mark.parametrize("tie", ["auto", "yes"])
def test_the_finer_copy_is_kept(two_matrices, dtypes, kept, tie):
    source, tensors = two_matrices(dtypes, tie=tie)
    kind = GGMLQuantizationType[kept]
    expected = dequantize(quantize(tensors[EMBEDDING], kind), kind)
    np.testing.assert_array_equal(source.tensors[EMBEDDING].load(), expected)
    assert source.tensors[EMBEDDING].dtype == kept
    assert kept in source.tie.figures["kept"]


def test_a_head_that_drifted_a_little_is_its_own(two_matrices):
    rng = np.random.default_rng(5)
    source, _ = two_matrices(
        ("F16", "F16"), head=lambda rows: rows + rng.normal(0, 0.005, rows.shape).astype(np.float32)
    )
    assert not source.tie.tied
    assert source.tie.figures["mean_row_cosine"] > 0.9  # told by the rounding error and not by direction


@pytest.mark.parametrize(("dtype", "sigma"), [("Q4_0", 0.009), ("Q8_0", 0.0006)])
def test_between_the_two_the_caller_must_say(two_matrices, dtype, sigma):
    rng = np.random.default_rng(5)
    with pytest.raises(TieUndecided) as caught:
        two_matrices(
            (dtype, dtype), head=lambda rows: rows + rng.normal(0, sigma, rows.shape).astype(np.float32)
        )
    assert 1.5 < caught.value.rms_difference / caught.value.expected_rms < 3


def test_one_row_of_another_matrix_is_enough_to_doubt(two_matrices):
    def change_row(rows):
        changed = rows.copy()
        changed[3] = -changed[3][::-1] * 0.05
        return changed

    with pytest.raises(TieUndecided) as caught:
        two_matrices(("Q4_0", "Q8_0"), head=change_row)
    assert caught.value.rms_difference < 3 * caught.value.expected_rms
    assert caught.value.smallest_row_cosine < 0.5


@pytest.mark.parametrize(("tie", "tensors"), [("yes", 20), ("no", 21)])
def test_the_caller_is_obeyed_and_recorded(two_matrices, tie, tensors):
    source, _ = two_matrices(("Q4_0", "Q8_0"), head=lambda rows: rows[::-1].copy(), tie=tie)
    assert source.config.tie_word_embeddings == (tie == "yes")
    assert len(source.tensors) == tensors
    assert source.tie.rule == f"--tie {tie}"


def test_a_head_that_is_not_there_cannot_be_untied(make_gguf, kit):
    with pytest.raises(TieImpossible):
        open_source(str(make_gguf(kit.LLAMA)), tie="no")


def test_one_matrix_is_tied(make_gguf, kit):
    source = open_source(str(make_gguf(kit.LLAMA)))
    assert (source.tie.tied, source.tie.figures) == (True, {})


def test_unused_rows_of_zeros_do_not_count_against_it(two_matrices):
    def zero_rows(rows):
        rows[10:20] = 0
        return rows

    source, _ = two_matrices(("Q5_0", "Q8_0"), head=zero_rows)
    assert source.tie.tied


def test_a_matrix_with_nan_is_refused_by_name(two_matrices):
    def spoil(rows):
        spoiled = rows.copy()
        spoiled[0, 0] = np.nan
        return spoiled

    with pytest.raises(TensorNotFinite) as caught:
        two_matrices(("F32", "F32"), head=spoil)
    assert (caught.value.tensor, caught.value.count) == (HEAD, 1)


@pytest.mark.parametrize("dtype", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_expected_error_is_the_measured_one(dtype):
    values = np.random.default_rng(0).normal(0, 0.05, (512, 1024)).astype(np.float32)
    kind = GGMLQuantizationType[dtype]
    data = quantize(values, kind)
    measured = np.mean(np.square(dequantize(data, kind) - values, dtype=np.float64))
    # Types with a minimum have the two ends of each 32 values on the grid, and so 1/16 less.
    assert mean_square_error(data, dtype) == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize(
    ("dtype", "size", "halves", "per_block"),
    [
        ("Q2_K", 84, (80, 82), 16),
        ("Q3_K", 110, (108,), 16),
        ("Q4_K", 144, (0, 2), 8),
        ("Q5_K", 176, (0, 2), 8),
        ("Q6_K", 210, (208,), 16),
    ],
)
def test_steps_of_k_quants_are_the_gaps_between_values(dtype, size, halves, per_block):
    # Within a sub-block values are integer multiples of one step apart; with random contents the smallest gap
    # between two different ones is that step, bar the few sub-blocks that happen to have none of one step.
    blocks = np.random.default_rng(0).integers(0, 256, (200, size), dtype=np.uint8)
    if dtype == "Q6_K":
        blocks[:, 128:192] = 0  # the high bits: 16 values on 64 levels have no neighbours, on 16 they have
    for at in halves:
        blocks[:, at : at + 2] = np.full((200, 1), 0.01, np.float16).view(np.uint8)
    values = np.sort(dequantize(blocks, GGMLQuantizationType[dtype]).reshape(200, per_block, -1), axis=2)
    gaps = np.diff(values, axis=2)
    smallest = np.where(gaps > 1e-6, gaps, np.inf).min(axis=2)
    expected = np.square(np.where(np.isinf(smallest), 0, smallest)).mean(axis=1) / 12
    found = np.array([mean_square_error(block[None], dtype) for block in blocks])
    assert np.mean(np.isclose(found, expected, rtol=0.01)) > 0.8


def test_grids_without_one_step_have_no_expected_error():
    assert mean_square_error(np.zeros((2, 66), np.uint8), "IQ2_XXS") is None
