"""The side of a document follows from its text, and never changes between releases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apr.base.errors import BadOption
from apr.data.split import SPLIT_RULE, check_fraction, is_validation

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def test_the_split_is_pinned():
    assert SPLIT_RULE == "sha256-u64-v1"
    for seed, pinned in ((42, [92, 136, 238, 243, 258, 265, 267]), (43, [5, 20, 33, 100, 129, 185, 196])):
        assert [n for n in range(300) if is_validation(f"document {n}", seed, 0.02)] == pinned


@given(TEXTS, st.integers(), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_a_larger_fraction_holds_out_the_same_documents_and_more(text, seed, one, other):
    low, high = sorted((one, other))
    assert is_validation(text, seed, high) or not is_validation(text, seed, low)
    assert not is_validation(text, seed, 0.0)


def test_the_share_held_out_is_the_fraction():
    held_out = sum(is_validation(str(number), 0, 0.1) for number in range(20_000))
    assert 1830 < held_out < 2170  # four standard deviations


@pytest.mark.parametrize("fraction", [-0.01, 1.0, 2.0, float("nan")])
def test_a_fraction_outside_its_range_is_refused(fraction):
    with pytest.raises(BadOption):
        check_fraction(fraction)
