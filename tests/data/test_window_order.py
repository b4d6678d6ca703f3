"""The order is a bijection, differs by seed and epoch, looks random, and never changes between releases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apr.base.errors import BadOption
from apr.data.order import ORDER_RULE, Permutation


def images(n, seed=42, epoch=0):
    return Permutation(n, seed, epoch).many(np.arange(n))


AROUND_POWERS = sorted({p + d for p in (2**9, 2**10, 2**12, 2**13, 4**7, 1000, 10**4) for d in (-1, 0, 1)})


@pytest.mark.parametrize("sizes", [range(1, 301), AROUND_POWERS], ids=["1 to 300", "around powers"])
@pytest.mark.parametrize("epoch", [0, 1])
def test_it_is_a_bijection(sizes, epoch):
    for n in sizes:
        assert np.array_equal(np.sort(images(n, 7, epoch)), np.arange(n))


@pytest.mark.parametrize("n", [10**12, 2**62, 4**20 + 1])
def test_large_domains_stay_inside_and_do_not_collide(n):
    indices = np.concatenate([np.arange(50_000), np.random.default_rng(1).integers(50_000, n, 50_000)])
    indices = np.unique(indices)
    found = Permutation(n, 42, 0).many(indices)
    assert 0 <= found.min() <= found.max() < n
    assert len(np.unique(found)) == len(indices)
    assert found.max() > n * 0.999  # and they reach everywhere
    assert abs(found.mean() / n - 0.5) < 0.01


@given(st.integers(1, 2**62), st.integers(), st.integers(0), st.data())
def test_one_index_and_many_agree(n, seed, epoch, data):
    indices = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=5))
    permutation = Permutation(n, seed, epoch)
    assert [permutation(index) for index in indices] == permutation.many(np.array(indices)).tolist()


def test_the_order_is_pinned():
    assert ORDER_RULE == "feistel-splitmix64-v1"
    assert images(10, 42, 0).tolist() == [4, 9, 7, 5, 6, 8, 0, 1, 2, 3]
    assert images(10, 42, 1).tolist() == [5, 2, 4, 0, 8, 3, 6, 9, 1, 7]
    for n, pinned in {
        1000: [972, 755, 968, 89],
        10**6 + 3: [246156, 557997, 439820, 916384],
        10**12: [32384466812, 572932799484, 23013991807, 822391312888],
    }.items():
        assert Permutation(n, 42, 3).many(np.array([0, 1, 2, n - 1])).tolist() == pinned


def test_seed_and_epoch_and_size_each_give_another_order():
    orders = {tuple(images(50, seed, epoch)) for seed in range(-3, 4) for epoch in range(5)}
    assert len(orders) == 35
    assert (images(51, 0, 0)[:50] != images(50, 0, 0)).any()


@pytest.mark.parametrize("n", [8, 17, 64])
def test_every_place_is_as_likely_as_any_other(n):
    orders = np.stack([images(n, seed) for seed in range(1500)])
    counts = np.stack([np.bincount(column, minlength=n) for column in orders.T])
    expected = len(orders) / n
    chi_squared = ((counts - expected) ** 2 / expected).sum() / (n - 1) ** 2
    assert 0.6 < chi_squared < 1.4
    # Neighbours in the text are neighbours in the order no more often than by chance, 1 in n.
    assert abs((np.diff(orders, axis=1) == 1).mean() - 1 / n) < 0.02


@pytest.mark.parametrize("n", [0, -1, 2**62 + 1])
def test_a_size_out_of_range_is_refused(n):
    with pytest.raises(BadOption):
        Permutation(n, 42, 0)


@pytest.mark.parametrize("index", [-1, 5])
def test_an_index_outside_is_refused(index):
    with pytest.raises(IndexError):
        Permutation(5, 42, 0)(index)
