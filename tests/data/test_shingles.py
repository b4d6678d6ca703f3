"""Shingles are what their rule says, in every script, whatever the blocks that a text is cut into."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apr.data import shingles
from apr.data.minhash import KEY_BITS, LEAST_THRESHOLD, Banding, band_keys, banding_of
from apr.data.shingles import jaccard, shingle_sets
from deduplicated import reference_shingles

ASCII = st.text(st.sampled_from("ab_1 \n.+-(\t"), max_size=60)


@given(st.lists(ASCII, max_size=6))
def test_they_are_those_of_a_plain_implementation(texts):
    """As many, and equal where those are equal."""
    plain = [reference_shingles(text) for text in texts]
    found = shingle_sets(texts)
    for expected, given_set in zip(plain, found, strict=True):
        assert len(expected) == len(given_set)
        assert (np.diff(given_set.astype(np.int64)) > 0).all()
        for other, other_set in zip(plain, found, strict=True):
            union = expected | other
            similarity = len(expected & other) / len(union) if union else 0.0
            assert jaccard(given_set, other_set) == similarity


@given(st.lists(st.text(max_size=80), max_size=5), st.integers(1, 30))
def test_neither_neighbours_nor_blocks_change_them(texts, block):
    texts = [text.encode(errors="ignore").decode() for text in texts]
    alone = [shingle_sets([text])[0].tolist() for text in texts]
    assert [found.tolist() for found in shingle_sets(texts)] == alone
    real, shingles._BLOCK_CHARACTERS = shingles._BLOCK_CHARACTERS, block + 81
    try:
        assert [found.tolist() for found in shingle_sets(texts)] == alone
    finally:
        shingles._BLOCK_CHARACTERS = real


def test_a_long_text_is_cut_between_words(monkeypatch):
    text = " ".join(f"word{number % 37} ({number})" for number in range(400))
    whole = shingle_sets([text])[0].tolist()
    for block in (41, 100, 1000):
        monkeypatch.setattr(shingles, "_BLOCK_CHARACTERS", block)
        assert shingle_sets([text])[0].tolist() == whole


@pytest.mark.parametrize(
    ("text", "num_shingles"),
    [
        ("", 0),
        (" \n\t\u3000\ufeff", 0),
        ("one", 1),
        ("one two", 1),
        ("one two three four five", 1),
        ("one two three four five six", 2),
        (
            "na\u00efve \u00c4rger \u0432\u043e \u03bb\u03cc\u03b3 \u05dc\u05d5 \u0645\u0631",
            2,
        ),  # Latin, Cyrillic, Greek, Hebrew and Arabic words
        ("\u6211\u4eec\u7684\u8bed\u8a00\u6ca1\u6709\u7a7a\u683c", 5),  # Chinese
        ("\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22", 3),  # Thai
        ("x = -1", 1),
        ("=" * 79, 1),
        ("\ud55c\uad6d\uc5b4 \uc5d0\ub294 \ube48\uce78 \uc774 \uc788\ub2e4", 1),  # Korean
        ("a" * 40, 1),
        ("acgt" * 10 + "a", 4),  # too long for a word: 41 characters, and the genome repeats after four
    ],
)
def test_units_of_scripts(text, num_shingles):
    assert len(shingle_sets([text])[0]) == num_shingles


def test_spaces_do_not_count_and_signs_and_case_do():
    first, spaced, negative, upper = shingle_sets(["x = f(1)", "x=\n\tf( 1 )", "x = f(-1)", "X = f(1)"])
    assert jaccard(first, spaced) == 1.0
    assert jaccard(first, negative) < 1.0
    assert jaccard(first, upper) < 1.0


def test_two_texts_without_words_do_not_resemble_each_other():
    assert jaccard(*shingle_sets([" ", "\n"])) == 0.0


def test_bands_find_99_of_100_pairs_at_the_threshold_and_no_longer_ones_would():
    for threshold in (LEAST_THRESHOLD, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0):
        banding = banding_of(threshold)
        assert banding.num_bands * banding.num_rows <= 128
        assert banding.recall(threshold) >= 0.99
        longer = Banding(num_bands=128 // (banding.num_rows + 1), num_rows=banding.num_rows + 1)
        assert longer.num_bands == 0 or longer.recall(threshold) < 0.99
    assert banding_of(0.8) == Banding(num_bands=21, num_rows=6)


def test_equal_bands_have_equal_keys_and_no_two_bands_have():
    same = shingle_sets(["the same " * 9 + "text"])[0]
    keys = band_keys([same, same, same[:1]], banding_of(0.8))
    assert keys.shape == (3, 21)
    assert (keys[0] == keys[1]).all()
    assert len(set(keys[0].tolist())) == 21
    assert keys.max() < 1 << KEY_BITS
    assert len(band_keys([], banding_of(0.8))) == 0


KEYS = """
import numpy as np
from apr.data.minhash import band_keys, banding_of
from apr.data.shingles import shingle_sets
texts = [" ".join(str(n * n % 97) for n in range(count)) for count in (1, 9, 400, 20_000)] + ["\\u6211" * 3]
keys = band_keys(shingle_sets(texts), banding_of(0.8))
print(f"{int((keys * np.arange(1, keys.size + 1, dtype=np.uint64).reshape(keys.shape)).sum()):x}")
"""


def test_keys_are_the_same_in_every_process_and_release():
    """Of another seed of Python's hashes, and with another kernel of the library; the number is kept here."""
    found = set()
    for seed, kernel in (("0", "scalar"), ("1", "scalar"), ("2", "avx2"), ("3", "")):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "RENSA_FORCE_KERNEL": kernel}
        made = subprocess.run([sys.executable, "-c", KEYS], capture_output=True, text=True, env=environment)
        assert made.returncode == 0, made.stderr
        found.add(made.stdout.strip())
    assert found == {"2af9e3b66505"}


def test_the_plain_implementation_agrees_on_real_code():
    text = re.sub(r"[^\x00-\x7f]", "", Path(os.__file__).read_text())
    half = text[: len(text) // 2]
    plain, plain_half = reference_shingles(text), reference_shingles(half)
    found = jaccard(*shingle_sets([text, half]))
    # 32 bits of hash: among thousands of shingles one may fall together with another.
    assert abs(found - len(plain & plain_half) / len(plain | plain_half)) < 1e-3
