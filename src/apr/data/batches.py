"""Batches for training and evaluation: the one end of this room that knows torch.

The state of a stream is one integer, the windows consumed. Position p stands for window permutation(p % n) of
epoch p // n, so a stream resumes anywhere by being given its cursor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from apr.base.errors import BadOption
from apr.data.documents import document_numbers, separator_of
from apr.data.errors import StreamExhausted
from apr.data.order import Permutation
from apr.data.shards import TokenDataset
from apr.data.windows import Windows, cut_windows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Windows to learn from or to judge by."""

    inputs_BT: torch.Tensor  # i64
    targets_BT: torch.Tensor  # i64, IGNORED_TARGET where padded
    num_target_tokens: int  # targets that are not padding; what a mean loss is a mean over
    window_indices: tuple[int, ...]  # which windows, [B]
    # i32, the document of each input; None where attention crosses them.
    documents_BT: torch.Tensor | None = None

    @property
    def scored(self) -> tuple[torch.Tensor, ...]:
        """What a loss is computed from: inputs, targets, and documents where attention stays inside them."""
        pair = (self.inputs_BT, self.targets_BT)
        return pair if self.documents_BT is None else (*pair, self.documents_BT)


class BatchStream:
    """Training batches in a seeded order.

    Args:
        dataset: the training tokens.
        seq_length: predicted tokens a window, T.
        batch_size: windows a batch, B; every batch has exactly so many.
        seed: of the order.
        allow_cycle: begin another epoch, in another order, when the windows are used up.
        cursor: windows consumed before; 0 for a fresh start.
        document_mask: say of each token which document it belongs to.

    Raises:
        BadOption, CorpusShorterThanWindow.
        NoSeparators: with `document_mask`, the dataset does not say where its documents end.
    """

    def __init__(
        self,
        dataset: TokenDataset,
        seq_length: int,
        batch_size: int,
        seed: int,
        allow_cycle: bool,
        cursor: int = 0,
        document_mask: bool = False,
    ) -> None:
        if cursor < 0:
            raise BadOption(option="the data cursor", value=str(cursor), limit="at least 0")
        self._windows = cut_windows(dataset, seq_length)
        self._batch_size = _checked_batch_size(batch_size)
        self._seed = seed
        self._allow_cycle = allow_cycle
        self._separator_id = separator_of(dataset) if document_mask else None
        self._permutation: tuple[int, Permutation] | None = None  # of the epoch named before it
        self.cursor = cursor

    @property
    def num_windows(self) -> int:
        """Windows in one epoch."""
        return len(self._windows)

    @property
    def epoch(self) -> int:
        """Epoch of the next window."""
        return self.cursor // self.num_windows

    def next_batch(self) -> Batch:
        """Take the next batch and move the cursor past it.

        Raises:
            StreamExhausted: no whole batch is left and `allow_cycle` is off; the cursor stays.
            ShardChangedInUse: a shard is not what it was when it was checked.
        """
        indices = self._indices(self.cursor, 1)
        self._windows.dataset.require_unchanged()
        batch = _make_batch(self._windows, indices, self._separator_id)
        self.cursor += self._batch_size
        return batch

    def next_step(self, num_batches: int, rank: int = 0, num_ranks: int = 1) -> list[Batch]:
        """Take one process's share of a step's windows, and move the cursor past the whole step.

        The shares of all processes, one behind the other, are the step's windows in their order.

        Args:
            num_batches: micro-batches of the step, of all processes together.
            rank: which share, from 0.
            num_ranks: how many there are.

        Returns:
            Batches of at most `batch_size` windows.

        Raises:
            BadOption: the windows cannot be shared evenly.
            StreamExhausted, ShardChangedInUse: as for `next_batch`.
        """
        if num_ranks == 1:
            return [self.next_batch() for _ in range(num_batches)]
        total = num_batches * self._batch_size
        if total % num_ranks:
            raise BadOption(
                option="the number of processes", value=str(num_ranks), limit=f"a divisor of {total}"
            )
        own = self._indices(self.cursor, num_batches)[rank * total // num_ranks :][: total // num_ranks]
        self._windows.dataset.require_unchanged()
        parts = [own[start : start + self._batch_size] for start in range(0, len(own), self._batch_size)]
        batches = [_make_batch(self._windows, part, self._separator_id) for part in parts]
        self.cursor += total
        return batches

    def planned_windows(self, num_batches: int) -> np.ndarray:
        """Window indices of the next batches, in order, without reading a token: [num_batches * B] i64.

        Raises:
            StreamExhausted: there are not so many.
        """
        return self._indices(self.cursor, num_batches)

    def order_digest(self, num_batches: int) -> str:
        """Hash the order of the next batches without reading a token.

        Returns:
            sha256 over their window indices as little-endian u64, 64 hexadecimal digits.

        Raises:
            StreamExhausted: there are not so many.
        """
        digest = hashlib.sha256()
        blocks = 4096
        for begin in range(0, num_batches, blocks):
            count = min(blocks, num_batches - begin)
            indices = self._indices(self.cursor + begin * self._batch_size, count)
            digest.update(indices.astype("<u8").tobytes())
        return digest.hexdigest()

    def _indices(self, cursor: int, num_batches: int) -> np.ndarray:
        n, stop = self.num_windows, cursor + num_batches * self._batch_size
        if stop > n and not self._allow_cycle:
            raise StreamExhausted(cursor=cursor, num_windows=n, batch_size=self._batch_size)
        pieces = []
        while cursor < stop:
            epoch, offset = divmod(cursor, n)
            count = min(stop - cursor, n - offset)
            pieces.append(self._epoch(epoch).many(np.arange(offset, offset + count)))
            cursor += count
        return np.concatenate(pieces)

    def _epoch(self, epoch: int) -> Permutation:
        if self._permutation is None or self._permutation[0] != epoch:
            self._permutation = epoch, Permutation(self.num_windows, self._seed, epoch)
        return self._permutation[1]


def evaluation_batches(
    dataset: TokenDataset,
    seq_length: int,
    batch_size: int,
    max_windows: int | None = None,
    *,
    document_mask: bool = False,
) -> Iterator[Batch]:
    """Every window once, in the order of the text; the last batch may be smaller.

    Args:
        dataset: the validation tokens.
        seq_length: predicted tokens a window, T.
        batch_size: windows a batch, B.
        max_windows: only the first so many windows; None for all.
        document_mask: as for `BatchStream`.

    Raises:
        BadOption, CorpusShorterThanWindow, NoSeparators: at once.
        ShardChangedInUse: a shard is not what it was when it was checked; with the batch that it would be in.
    """
    windows = cut_windows(dataset, seq_length)
    _checked_batch_size(batch_size)
    if max_windows is not None and max_windows < 1:
        raise BadOption(option="the number of validation windows", value=str(max_windows), limit="at least 1")
    count = len(windows) if max_windows is None else min(max_windows, len(windows))
    separator_id = separator_of(dataset) if document_mask else None
    blocks = (np.arange(start, min(start + batch_size, count)) for start in range(0, count, batch_size))
    return (_judged_batch(windows, block, separator_id) for block in blocks)


def _judged_batch(windows: Windows, indices: np.ndarray, separator_id: int | None) -> Batch:
    batch = _make_batch(windows, indices, separator_id)
    windows.dataset.require_unchanged()  # after it was read: a loss of other tokens would be believed
    return batch


def _make_batch(windows: Windows, indices: np.ndarray, separator_id: int | None) -> Batch:
    chosen = tuple(int(index) for index in indices)
    pairs = [windows.window(index) for index in chosen]
    inputs_BT = np.stack([inputs for inputs, _ in pairs])
    documents = None if separator_id is None else torch.from_numpy(document_numbers(inputs_BT, separator_id))
    return Batch(
        inputs_BT=torch.from_numpy(inputs_BT),
        targets_BT=torch.from_numpy(np.stack([targets for _, targets in pairs])),
        num_target_tokens=sum(windows.num_targets(index) for index in chosen),
        window_indices=chosen,
        documents_BT=documents,
    )


def _checked_batch_size(batch_size: int) -> int:
    if batch_size < 1:
        raise BadOption(option="--batch-size", value=str(batch_size), limit="at least 1")
    return batch_size
