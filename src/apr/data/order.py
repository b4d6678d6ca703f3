"""The order of windows as arithmetic: a keyed permutation in constant memory.

A balanced Feistel network permutes the smallest power of four that holds n, and an index that lands outside
is walked on through the network until it is inside (Black and Rogaway 2002, "Ciphers with Arbitrary Finite
Domains"). So the window at any position of any epoch follows from (n, seed, epoch), and resuming a run, or
sharing it out among any number of workers, needs no stored list and no replay.
"""

from __future__ import annotations

import hashlib

import numpy as np

from apr.base.errors import BadOption

ORDER_RULE = "feistel-splitmix64-v1"  # names the arithmetic below; another arithmetic takes another name
MAX_WINDOWS = 1 << 62
_ROUNDS = 8  # four give a permutation; eight make small domains look random too
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class Permutation:
    """A bijection of 0 .. n - 1, keyed by seed and epoch.

    Args:
        n: size of the domain, from 1 to 2**62.
        seed: any integer.
        epoch: any integer.

    Raises:
        BadOption: n is out of range.
    """

    def __init__(self, n: int, seed: int, epoch: int) -> None:
        if not 1 <= n <= MAX_WINDOWS:
            raise BadOption(option="the number of windows", value=str(n), limit=f"from 1 to {MAX_WINDOWS}")
        self.n = n
        half_bits = max(1, ((n - 1).bit_length() + 1) // 2)
        self._half_bits = np.uint64(half_bits)
        self._mask = np.uint64((1 << half_bits) - 1)
        key = hashlib.blake2b(f"{ORDER_RULE}:{n}:{seed}:{epoch}".encode(), digest_size=8 * _ROUNDS).digest()
        self._round_keys = np.frombuffer(key, dtype="<u8").astype(np.uint64)

    def __call__(self, index: int) -> int:
        """The image of one index.

        Raises:
            IndexError: not 0 <= index < n.
        """
        return int(self.many(np.array([index], dtype=np.int64))[0])

    def many(self, indices: np.ndarray) -> np.ndarray:
        """The images of many indices.

        Args:
            indices: integers.

        Returns:
            i64 of the same shape.

        Raises:
            IndexError: an index is not from 0 to n - 1.
        """
        if indices.size and (indices.min() < 0 or indices.max() >= self.n):
            raise IndexError(f"an index outside 0 to {self.n - 1}")
        values = self._network(indices.astype(np.uint64))
        # The network's domain is less than four times n, so a walk has fewer than four steps on average.
        while (outside := values >= np.uint64(self.n)).any():
            values[outside] = self._network(values[outside])
        return values.astype(np.int64)

    def _network(self, values: np.ndarray) -> np.ndarray:
        left, right = values >> self._half_bits, values & self._mask
        for key in self._round_keys:
            left, right = right, left ^ (_mixed(right ^ key) & self._mask)
        return (left << self._half_bits) | right


def _mixed(values: np.ndarray) -> np.ndarray:
    """splitmix64 (Steele, Lea and Flood 2014): every bit of the result depends on every bit of the value."""
    values = values + _GOLDEN
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))
