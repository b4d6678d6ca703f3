"""One batch is encoded while the one before is written; order, places and errors are those of one after the other."""

import threading

import pytest

from apr.data.ahead import encoded_ahead

FREELY = {"size": lambda batch: 1, "most": 100}


def test_batches_come_in_order_with_where_reading_stood():
    read = []

    def batches():
        for number in range(5):
            read.append(number)
            yield number

    found = list(encoded_ahead(batches(), lambda number: number * 10, lambda: list(read), **FREELY))
    assert found == [(number, number * 10, list(range(number + 1))) for number in range(5)]


def test_the_next_two_batches_are_encoded_while_the_last_is_in_use():
    begun = [threading.Event() for _ in range(5)]

    def encode(number):
        begun[number].set()
        return number

    for number, _, _ in encoded_ahead(range(5), encode, lambda: None, **FREELY):
        for event in begun[number + 1 : number + 3]:
            assert event.wait(timeout=30)
        assert not any(event.is_set() for event in begun[number + 3 :])


def test_a_large_batch_is_encoded_when_those_before_it_are_done_with():
    begun = [threading.Event() for _ in range(5)]
    sizes = [1, 1, 9, 1, 9]

    def encode(number):
        begun[number].set()
        return number

    last_begun = {0: 1, 1: 2, 2: 3, 3: 4, 4: 4}  # a 9 has room for one 1 beside it
    for number, _, _ in encoded_ahead(range(5), encode, lambda: None, size=sizes.__getitem__, most=10):
        assert begun[last_begun[number]].wait(timeout=30)
        assert not any(event.is_set() for event in begun[last_begun[number] + 1 :])


@pytest.mark.parametrize("wrong", range(3))
def test_an_error_in_encoding_comes_in_the_place_of_its_batch(wrong):
    def encode(number):
        if number == wrong:
            raise ValueError(number)
        return number

    found = []

    def use():
        for number, _, _ in encoded_ahead(range(3), encode, lambda: None, **FREELY):
            found.append(number)

    with pytest.raises(ValueError, match=str(wrong)):
        use()
    assert found == list(range(wrong))


def test_nothing_is_nothing():
    assert list(encoded_ahead([], lambda batch: batch, lambda: None, **FREELY)) == []
