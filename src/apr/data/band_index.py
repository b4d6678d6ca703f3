"""A table from the keys of bands to the documents that have them, 8 bytes an entry.

Sorted arrays of which each is at least twice as long as the next, so that a million documents are sorted a few times
each and not at every addition; and a small dictionary of what came last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from apr.data.minhash import KEY_BITS

_RECENT = 1 << 12  # documents; then they are sorted in
_ROW_BITS = np.uint64(64 - KEY_BITS)  # 10^9 documents
_ONE = np.uint64(1)


class BandIndex:
    """Numbers of documents by the keys of their bands."""

    def __init__(self) -> None:
        self._runs: list[np.ndarray] = []  # entries `key << 30 | number`, ascending
        self._recent: dict[int, list[int]] = {}
        self._waiting: list[np.ndarray] = []  # the entries of the recent ones

    def put(self, keys: np.ndarray, number: int) -> None:
        """Add a document; numbers must ascend.

        Args:
            keys: [num_bands] u64.
        """
        for key in keys.tolist():
            self._recent.setdefault(key, []).append(number)
        self._waiting.append(keys << _ROW_BITS | np.uint64(number))

    def put_many(self, keys: np.ndarray, first_number: int) -> None:
        """Add documents that follow each other.

        Args:
            keys: [number of documents, num_bands] u64.
        """
        numbers = np.arange(first_number, first_number + len(keys), dtype=np.uint64)
        self._waiting.append((keys << _ROW_BITS | numbers[:, None]).ravel())
        self._sort_in()

    def in_arrays(self, keys: np.ndarray) -> list[list[int]]:
        """What the sorted arrays know of a batch, for `candidates`, which is to be asked before the next batch.

        A batch at a time, in the order of its keys: for one key alone a processor waits for memory at every step.

        Args:
            keys: [number of documents, num_bands] u64.
        """
        if len(self._waiting) >= _RECENT:
            self._sort_in()
        found: list[list[int]] = [[] for _ in keys]
        order = np.argsort(keys, axis=None)
        ascending = keys.ravel()[order]
        for run in self._runs:
            for place, numbers in _hits(run, ascending):
                found[int(order[place]) // keys.shape[1]] += numbers
        return found

    def candidates(self, keys: np.ndarray, in_arrays: Sequence[int]) -> list[int]:
        """Documents that share a band, those that share most first, and of these the earliest.

        Args:
            keys: [num_bands] u64.
            in_arrays: of these keys.
        """
        found = Counter(in_arrays)
        for key in keys.tolist():
            found.update(self._recent.get(key, ()))
        return sorted(found, key=lambda number: (-found[number], number))

    def _sort_in(self) -> None:
        self._runs.append(np.sort(np.concatenate(self._waiting)))
        self._recent, self._waiting = {}, []
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            last = self._runs.pop()
            self._runs[-1] = np.sort(
                np.concatenate([self._runs[-1], last]), kind="stable"
            )  # merges what is sorted


def _hits(run: np.ndarray, ascending: np.ndarray) -> Iterator[tuple[int, list[int]]]:
    """The places of keys that an array has, each with the numbers there."""
    lowest = ascending << _ROW_BITS
    firsts = np.searchsorted(run, lowest)
    places = np.flatnonzero(run[np.minimum(firsts, len(run) - 1)] >> _ROW_BITS == ascending)
    ends = np.searchsorted(run, lowest[places] + (_ONE << _ROW_BITS))
    for place, first, end in zip(places.tolist(), firsts[places].tolist(), ends.tolist(), strict=True):
        yield place, (run[first:end] & ((_ONE << _ROW_BITS) - _ONE)).tolist()
