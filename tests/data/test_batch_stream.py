"""A stream's state is one integer; it gives every window once an epoch, and an exhausted one is an error."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from apr.base.errors import BadOption
from apr.data.batches import BatchStream, evaluation_batches
from apr.data.errors import CorpusShorterThanWindow, StreamExhausted
from apr.data.windows import IGNORED_TARGET


@pytest.fixture(scope="session")
def ten_windows(memory_dataset):
    """Ten windows of four, the last with three targets; token number i is the id i."""
    return memory_dataset([range(25), range(25, 40)])


def stream(dataset, batch_size=3, seed=42, allow_cycle=True, cursor=0):
    return BatchStream(dataset, 4, batch_size, seed, allow_cycle, cursor)


def test_a_batch_holds_the_windows_it_names(ten_windows):
    batch = stream(ten_windows, batch_size=10).next_batch()
    assert batch.inputs_BT.dtype == batch.targets_BT.dtype == torch.int64
    assert batch.inputs_BT.shape == batch.targets_BT.shape == (10, 4)
    assert sorted(batch.window_indices) == list(range(10))
    assert batch.window_indices != tuple(range(10))
    for row, index in enumerate(batch.window_indices):
        assert batch.inputs_BT[row].tolist()[:3] == [index * 4, index * 4 + 1, index * 4 + 2]
    assert batch.num_target_tokens == 39 == int((batch.targets_BT != IGNORED_TARGET).sum())


@given(st.integers(1, 7), st.integers(0, 40), st.integers(0, 5))
def test_every_epoch_gives_every_window_once_in_another_order(ten_windows, batch_size, seed, epochs):
    batches = stream(ten_windows, batch_size, seed)
    taken = []
    while batches.cursor < (epochs + 2) * 10:
        taken += batches.next_batch().window_indices
    orders = [taken[begin : begin + 10] for begin in range(0, len(taken) - 9, 10)]
    assert len(orders) >= epochs + 2
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len({tuple(order) for order in orders}) == len(orders)


@given(st.integers(1, 7), st.integers(0, 12))
def test_a_stream_resumes_from_its_cursor(ten_windows, batch_size, num_batches):
    whole = stream(ten_windows, batch_size)
    for _ in range(num_batches):
        whole.next_batch()
    resumed = stream(ten_windows, batch_size, cursor=whole.cursor)
    assert whole.cursor == num_batches * batch_size
    for _ in range(3):
        one, other = whole.next_batch(), resumed.next_batch()
        assert one.window_indices == other.window_indices
        assert torch.equal(one.inputs_BT, other.inputs_BT)
        assert torch.equal(one.targets_BT, other.targets_BT)


def test_an_exhausted_stream_is_an_error_and_stays_one(ten_windows):
    batches = stream(ten_windows, batch_size=3, allow_cycle=False)
    taken = [index for _ in range(3) for index in batches.next_batch().window_indices]
    assert len(set(taken)) == 9
    for _ in range(2):
        with pytest.raises(StreamExhausted) as caught:
            batches.next_batch()
        assert (caught.value.cursor, caught.value.num_windows, caught.value.batch_size) == (9, 10, 3)
    assert batches.cursor == 9


def test_the_epoch_is_that_of_the_next_window(ten_windows):
    batches = stream(ten_windows, batch_size=5)
    epochs = []
    for _ in range(4):
        epochs.append(batches.epoch)
        batches.next_batch()
    assert epochs == [0, 0, 1, 1]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 10])
def test_a_plan_that_is_accepted_does_not_run_out(ten_windows, batch_size):
    batches = stream(ten_windows, batch_size, allow_cycle=False)
    for _ in range(10 // batch_size):
        batches.next_batch()
    with pytest.raises(StreamExhausted):
        batches.next_batch()


def test_the_order_digest_is_of_the_batches_to_come(ten_windows):
    batches = stream(ten_windows, cursor=6)
    digest = batches.order_digest(5)
    assert batches.cursor == 6
    taken = [index for _ in range(5) for index in batches.next_batch().window_indices]
    assert digest == hashlib.sha256(np.array(taken, dtype="<u8").tobytes()).hexdigest()
    others = [stream(ten_windows, cursor=6, seed=43), stream(ten_windows, cursor=9)]
    assert digest not in [other.order_digest(5) for other in others]
    with pytest.raises(StreamExhausted):
        stream(ten_windows, allow_cycle=False).order_digest(4)


def test_the_planned_windows_are_those_of_the_batches_to_come(ten_windows):
    batches = stream(ten_windows, cursor=6)
    planned = batches.planned_windows(5)
    assert batches.cursor == 6
    assert planned.tolist() == [index for _ in range(5) for index in batches.next_batch().window_indices]
    with pytest.raises(StreamExhausted):
        stream(ten_windows, allow_cycle=False).planned_windows(4)


def test_the_order_digest_does_not_depend_on_how_it_is_cut(memory_dataset):
    dataset = memory_dataset([np.arange(3001) % 1000])
    one = BatchStream(dataset, 1, 1, 42, allow_cycle=True)
    many = BatchStream(dataset, 1, 10, 42, allow_cycle=True)
    assert one.order_digest(10_000) == many.order_digest(1000)


@pytest.mark.parametrize(("batch_size", "sizes"), [(4, [4, 4, 2]), (5, [5, 5]), (100, [10])])
def test_evaluation_takes_every_window_once_in_order(ten_windows, batch_size, sizes):
    batches = list(evaluation_batches(ten_windows, 4, batch_size))
    assert [len(batch.window_indices) for batch in batches] == sizes
    assert [index for batch in batches for index in batch.window_indices] == list(range(10))
    assert sum(batch.num_target_tokens for batch in batches) == 39
    targets = torch.cat([batch.targets_BT for batch in batches]).flatten()
    assert targets[targets != IGNORED_TARGET].tolist() == list(range(1, 40))


def test_evaluation_may_be_of_the_first_windows_only(ten_windows):
    batches = list(evaluation_batches(ten_windows, 4, 4, max_windows=6))
    assert [batch.window_indices for batch in batches] == [(0, 1, 2, 3), (4, 5)]
    assert len(list(evaluation_batches(ten_windows, 4, 4, max_windows=99))) == 3


def test_what_cannot_be_is_refused_at_once(ten_windows):
    for bad in (
        lambda: stream(ten_windows, batch_size=0),
        lambda: stream(ten_windows, cursor=-1),
        lambda: evaluation_batches(ten_windows, 4, 0),
        lambda: evaluation_batches(ten_windows, 4, 1, max_windows=0),
    ):
        with pytest.raises(BadOption):
            bad()
    with pytest.raises(CorpusShorterThanWindow):
        evaluation_batches(ten_windows, 40, 1)
    with pytest.raises(CorpusShorterThanWindow):
        BatchStream(ten_windows, 40, 1, 42, allow_cycle=True)


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 8, 64])
def test_the_shares_of_a_step_are_its_windows_in_order(memory_dataset, num_ranks):
    dataset = memory_dataset([range(4 * 400 + 1)])

    whole = stream(dataset, batch_size=6)
    expected = [i for _ in range(2 * 32) for i in whole.next_batch().window_indices]
    shares = [stream(dataset, batch_size=6) for _ in range(num_ranks)]
    found = []
    for _ in range(2):
        for rank, share in enumerate(shares):
            batches = share.next_step(32, rank, num_ranks)
            assert all(len(batch.window_indices) <= 6 for batch in batches)
            found += [i for batch in batches for i in batch.window_indices]
    assert found == expected
    assert {share.cursor for share in shares} == {whole.cursor}


def test_an_uneven_share_takes_nothing(memory_dataset):
    batches = stream(memory_dataset([range(401)]), batch_size=5)
    with pytest.raises(BadOption):
        batches.next_step(1, 0, 2)
    assert batches.cursor == 0
