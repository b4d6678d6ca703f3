"""A table from the keys of bands to the documents that have them, 8 bytes an entry.

Sorted arrays of which each is at least twice as long as the next, so that a million documents are sorted a few times
each and not at every addition; and a small dictionary of what came last.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from apr.data.minhash import KEY_BITS

_RECENT = 1 << 12  # documents; then they are sorted in
_ROW_BITS = np.uint64(64 - KEY_BITS)  # 10^9 documents


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
        if len(self._waiting) >= _RECENT:
            self._sort_in()

    def candidates(self, keys: np.ndarray) -> list[int]:
        """Documents that share a band, those that share most first, and of these the earliest."""
        found: Counter[int] = Counter()
        for key in keys.tolist():
            found.update(self._recent.get(key, ()))
        for run in self._runs:
            found.update(_numbers_in(run, keys))
        return sorted(found, key=lambda number: (-found[number], number))

    def put_many(self, keys: np.ndarray, first_number: int) -> None:
        """Add documents that follow each other.

        Args:
            keys: [number of documents, num_bands] u64.
        """
        numbers = np.arange(first_number, first_number + len(keys), dtype=np.uint64)
        self._waiting.append((keys << _ROW_BITS | numbers[:, None]).ravel())
        self._sort_in()

    def _sort_in(self) -> None:
        self._runs.append(np.sort(np.concatenate(self._waiting)))
        self._recent, self._waiting = {}, []
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            last = self._runs.pop()
            self._runs[-1] = np.sort(
                np.concatenate([self._runs[-1], last]), kind="stable"
            )  # merges what is sorted


def _numbers_in(run: np.ndarray, keys: np.ndarray) -> list[int]:
    lowest = keys << _ROW_BITS
    ends = np.searchsorted(run, np.stack([lowest, lowest + (np.uint64(1) << _ROW_BITS)]))
    numbers: list[int] = []
    for first, end in ends.T[ends[0] < ends[1]].tolist():
        numbers += (run[first:end] & ((np.uint64(1) << _ROW_BITS) - np.uint64(1))).tolist()
    return numbers
