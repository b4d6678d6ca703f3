"""A table from digests to numbers in little memory: sorted arrays, and a small dictionary of what came last.

A Python dictionary of a million digests takes some 200 MB; here a million take 24 MB.
"""

from __future__ import annotations

import numpy as np

_RECENT = 1 << 16  # then they are sorted in; each time costs a copy of the arrays
_KEY = np.dtype([("high", ">u8"), ("low", ">u8")])


class DigestIndex:
    """Numbers by the first 16 bytes of a digest: that two of 10^9 texts share those has a chance of 10^-21."""

    def __init__(self) -> None:
        self._high = np.empty(0, dtype=np.uint64)
        self._low = np.empty(0, dtype=np.uint64)
        self._values = np.empty(0, dtype=np.uint64)
        self._recent: dict[bytes, int] = {}

    def __len__(self) -> int:
        """Digests."""
        return len(self._values) + len(self._recent)

    def get(self, digest: bytes) -> int | None:
        """The number of a digest; None for one that is not there."""
        key = digest[:16]
        if (found := self._recent.get(key)) is not None:
            return found
        place = self._place(key)
        return None if place is None else int(self._values[place])

    def put(self, digest: bytes, value: int) -> None:
        """Give a digest a number from 0 to below 2^64, in the place of the one it had."""
        key = digest[:16]
        if key not in self._recent and (place := self._place(key)) is not None:
            self._values[place] = value
            return
        self._recent[key] = value
        if len(self._recent) >= _RECENT:
            self._sort_in()

    def _place(self, key: bytes) -> int | None:
        high, low = (np.uint64(int.from_bytes(part, "big")) for part in (key[:8], key[8:]))
        at = int(np.searchsorted(self._high, high))
        while at < len(self._high) and self._high[at] == high:
            if self._low[at] == low:
                return at
            at += 1
        return None

    def _sort_in(self) -> None:
        keys = np.frombuffer(b"".join(self._recent), dtype=_KEY)
        high, low = (keys[name].astype(np.uint64) for name in ("high", "low"))
        values = np.fromiter(self._recent.values(), dtype=np.uint64, count=len(high))
        order = np.argsort(high, kind="stable")
        at = np.searchsorted(self._high, high[order])
        self._high = np.insert(self._high, at, high[order])
        self._low = np.insert(self._low, at, low[order])
        self._values = np.insert(self._values, at, values[order])
        self._recent = {}
