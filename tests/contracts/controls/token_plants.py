"""Defects of tokens-v1 that take more than a value: each gets the original and returns what takes its place."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any


def without_its_last_id(original: Callable[..., Any]) -> Callable[..., Any]:
    """The last id of a document is lost on its way to the shard."""

    def add(self: Any, entry: Any, ids: Any) -> Any:
        return original(self, entry, ids[:-1])

    return add


def by_turns(original: Callable[..., bool]) -> Callable[..., bool]:
    """The side follows from the order of reading: every fourth document is held out."""
    turn = count()
    return lambda text, seed, fraction: next(turn) % 4 == 0


def modulo_half(original: Callable[..., Any]) -> Callable[..., Any]:
    """The second half of an epoch repeats windows of the first."""

    def many(self: Any, indices: Any) -> Any:
        return original(self, indices) % max(1, self.n // 2)

    return many
