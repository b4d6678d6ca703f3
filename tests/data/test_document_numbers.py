"""Which document each token belongs to: told from separators, the same for every window, and never guessed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from apr.data.batches import BatchStream, evaluation_batches
from apr.data.documents import document_numbers, separator_of
from apr.data.errors import NoSeparators

EOS = {"eos_policy": "after", "eos_token_id": 0}


def counted(tokens: list[int], separator: int) -> list[int]:
    """The same, token by token."""
    numbers, number = [], 0
    for token in tokens:
        numbers.append(number)
        number += token == separator
    return numbers


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(0, 4))
def test_a_separator_ends_its_document(tokens: list[int], separator: int) -> None:
    found = document_numbers(np.array(tokens, dtype=np.int64), separator)
    assert found.dtype == np.int32
    assert found.tolist() == counted(tokens, separator)


def test_rows_are_numbered_by_themselves() -> None:
    rows = np.array([[5, 0, 5, 5], [0, 0, 5, 0], [5, 5, 5, 5]])
    assert document_numbers(rows, 0).tolist() == [[0, 0, 1, 1], [0, 1, 2, 2], [0, 0, 0, 0]]


@pytest.fixture
def three_documents(memory_dataset):
    """Documents of 5, 1 and 7 tokens, cut into windows of 4; the last is short and padded."""
    return memory_dataset([[1, 2, 3, 4, 0, 0, 5, 6], [7, 8, 9, 1, 0]], **EOS)


def test_every_batch_brings_the_documents_of_its_own_windows(three_documents) -> None:
    expected = {0: [0, 0, 0, 0], 1: [0, 1, 2, 2], 2: [0, 0, 0, 0]}
    stream = BatchStream(three_documents, 4, 2, 42, True, document_mask=True)
    trained = [stream.next_batch() for _ in range(6)]
    for batch in (*trained, *evaluation_batches(three_documents, 4, 2, document_mask=True)):
        assert batch.documents_BT is not None
        assert batch.documents_BT.tolist() == [expected[index] for index in batch.window_indices]
        assert len(batch.scored) == 3
        assert all(torch.equal(a, b) for a, b in zip(batch.scored, (
            batch.inputs_BT, batch.targets_BT, batch.documents_BT), strict=True))  # fmt: skip


@pytest.mark.parametrize("num_ranks", [1, 2, 4])
def test_every_process_gets_the_documents_of_its_share(three_documents, num_ranks: int) -> None:
    whole = BatchStream(three_documents, 4, 2, 42, True, document_mask=True)
    expected = [row for _ in range(2) for row in whole.next_batch().scored[2].tolist()]
    found = []
    for rank in range(num_ranks):
        share = BatchStream(three_documents, 4, 2, 42, True, document_mask=True)
        found += [row for batch in share.next_step(2, rank, num_ranks) for row in batch.scored[2].tolist()]
    assert found == expected


def test_the_mask_changes_neither_windows_nor_targets(three_documents) -> None:
    plain, masked = (BatchStream(three_documents, 4, 2, 42, True, document_mask=on) for on in (False, True))
    for _ in range(6):
        one, other = plain.next_batch(), masked.next_batch()
        assert one.documents_BT is None
        assert len(one.scored) == 2
        assert torch.equal(one.targets_BT, other.targets_BT)
        assert one.window_indices == other.window_indices
        assert one.num_target_tokens == other.num_target_tokens


def test_padding_is_never_in_front_of_a_token(three_documents) -> None:
    """The padding id may be the separator's; what counts must not see it."""
    (*_, last) = evaluation_batches(three_documents, 5, 1, document_mask=True)
    assert last.inputs_BT.tolist() == [[9, 1, 0, 0, 0]]
    assert last.num_target_tokens == 2
    assert last.documents_BT is not None
    assert last.documents_BT[0, :2].tolist() == [0, 0]


@pytest.mark.parametrize("policy", ["after", "between"])
def test_the_manifest_knows_the_separator(memory_dataset, policy: str) -> None:
    assert separator_of(memory_dataset([[1, 7]], eos_policy=policy, eos_token_id=7)) == 7


def test_a_dataset_without_separators_is_refused(memory_dataset) -> None:
    dataset = memory_dataset([range(20)])
    for make in (
        lambda: separator_of(dataset),
        lambda: BatchStream(dataset, 4, 2, 42, True, document_mask=True),
        lambda: evaluation_batches(dataset, 4, 2, document_mask=True),
    ):
        with pytest.raises(NoSeparators) as caught:
            make()
        assert caught.value.folder == "memory"
    BatchStream(dataset, 4, 2, 42, True)
