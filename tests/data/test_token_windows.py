"""Every token is predicted exactly once, from exactly the token before it."""

import hashlib
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apr.base.errors import BadOption
from apr.data.errors import CorpusShorterThanWindow
from apr.data.windows import IGNORED_TARGET, cut_windows, num_windows, shared_windows, window_hashes


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 12))
def test_every_token_is_predicted_exactly_once(memory_dataset, sizes, seq_length):
    total = sum(sizes)
    if total < seq_length + 1:
        return
    # Token number i is the id i + 1, so that an id says where it stood, and none is the padding.
    borders = np.cumsum([0, *sizes])
    dataset = memory_dataset([range(a + 1, b + 1) for a, b in pairwise(borders)])
    windows = cut_windows(dataset, seq_length)
    predicted, masked = [], 0
    for index in range(len(windows)):
        inputs, targets = windows.window(index)
        assert inputs.shape == targets.shape == (seq_length,)
        assert inputs.dtype == targets.dtype == np.int64
        real = targets != IGNORED_TARGET
        assert (targets[real] == inputs[real] + 1).all()
        assert real.sum() == windows.num_targets(index) == np.argmin([*real, False])
        predicted += targets[real].tolist()
        masked += int((~real).sum())
    assert predicted == list(range(2, total + 1))
    assert masked == len(windows) * seq_length - (total - 1) < seq_length


@pytest.mark.parametrize(
    ("total", "seq_length", "expected"),
    [(1, 4, 0), (2, 4, 1), (5, 4, 1), (6, 4, 2), (9, 4, 2), (10**13, 1024, 9_765_625_000)],
)
def test_the_number_of_windows(total, seq_length, expected):
    assert num_windows(total, seq_length) == expected


@pytest.mark.parametrize("total", [1, 2, 8])
def test_a_corpus_shorter_than_a_window_is_refused_with_figures(memory_dataset, total):
    with pytest.raises(CorpusShorterThanWindow) as caught:
        cut_windows(memory_dataset([range(total)]), 8)
    assert (caught.value.num_tokens, caught.value.needed_tokens) == (total, 9)
    assert len(cut_windows(memory_dataset([range(9)]), 8)) == 1


def test_what_is_no_window_is_refused(memory_dataset):
    dataset = memory_dataset([range(10)])
    with pytest.raises(BadOption):
        cut_windows(dataset, 0)
    for index in (-1, 3):
        with pytest.raises(IndexError):
            cut_windows(dataset, 4).window(index)


@given(st.integers(1, 5), st.integers(6, 40))
def test_hashes_are_of_the_full_windows(memory_dataset, seq_length, total):
    tokens = np.arange(total, dtype="<u4") % 1000
    hashes = window_hashes(memory_dataset([tokens[: total // 2], tokens[total // 2 :]]), seq_length)
    full = (total - 1) // seq_length
    expected = [
        hashlib.blake2b(tokens[i * seq_length : (i + 1) * seq_length + 1].tobytes(), digest_size=8).digest()
        for i in range(full)
    ]
    assert hashes.dtype == np.uint64
    assert hashes.tolist() == [int.from_bytes(digest, "little") for digest in expected]


def test_a_shared_window_is_found_and_1e5_windows_take_seconds(memory_dataset):
    rng = np.random.default_rng(0)
    train = rng.integers(0, 1000, 100_000 * 64 + 1, dtype=np.uint32)
    held_out = rng.integers(0, 1000, 64 * 100 + 1, dtype=np.uint32)
    held_out[64 * 7 : 64 * 8 + 1] = train[64 * 500 : 64 * 501 + 1]
    started = time.monotonic()
    hashes = window_hashes(memory_dataset([train]), 64)
    assert time.monotonic() - started < 5
    assert len(hashes) == 100_000
    shared = np.intersect1d(hashes, window_hashes(memory_dataset([held_out]), 64))
    assert shared.tolist() == [hashes[500]]


@pytest.mark.parametrize(("seq_length", "compared"), [(16, 128), (48, 144), (128, 128), (200, 200)])
def test_a_short_repeat_is_no_leak_and_a_long_one_is(memory_dataset, seq_length, compared):
    rng = np.random.default_rng(0)
    train, held_out = rng.integers(0, 1000, 2000), rng.integers(0, 1000, 600)
    held_out[:100] = train[:100]  # a licence at the top of two files
    assert shared_windows(memory_dataset([train]), memory_dataset([held_out]), seq_length) == (0, compared)
    held_out[: compared + 1] = train[: compared + 1]
    assert shared_windows(memory_dataset([train]), memory_dataset([held_out]), seq_length) == (1, compared)


def test_a_short_validation_part_is_compared_as_far_as_it_goes(memory_dataset):
    train = np.arange(500)
    assert shared_windows(memory_dataset([train]), memory_dataset([train[:50]]), 16) == (1, 48)
