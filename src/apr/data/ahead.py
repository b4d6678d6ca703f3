"""Encode the next batches while the last one is hashed and written.

Reading, hashing and writing hold one core; an engine that runs without Python's lock has the others meanwhile. The
order is that of reading, and what was known of the reader behind each batch comes with it, as it has read on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_AHEAD = 2  # so that the engine has the next batch while the sample of the last is compared

_Batch = TypeVar("_Batch")
_Encoded = TypeVar("_Encoded")
_Stand = TypeVar("_Stand")


def encoded_ahead(
    batches: Iterable[_Batch],
    encode: Callable[[_Batch], _Encoded],
    stand: Callable[[], _Stand],
    *,
    size: Callable[[_Batch], int],
    most: int,
) -> Iterator[tuple[_Batch, _Encoded, _Stand]]:
    """Encode batches in threads of their own, two ahead of the caller.

    Args:
        batches: read here, in the caller's thread.
        encode: called in another thread, for two batches at a time.
        stand: called here right after a batch was read.
        size: of a batch, in whatever unit.
        most: the size that is encoded ahead; a batch that would come above it waits until it has less company.

    Returns:
        Each batch with what `encode` and `stand` gave for it; three batches are in memory at a time.

    Raises:
        What reading or encoding raises; an error in reading may come before the batch in front of it is handed out.
    """
    with ThreadPoolExecutor(max_workers=_AHEAD, thread_name_prefix="encode") as pool:
        waiting: deque[tuple[_Batch, _Stand, Future[_Encoded]]] = deque()
        for batch in batches:
            stood = stand()
            while waiting and size(batch) + sum(size(before) for before, _, _ in waiting) > most:
                yield _done(waiting.popleft())
            waiting.append((batch, stood, pool.submit(encode, batch)))
            if len(waiting) > _AHEAD:
                yield _done(waiting.popleft())
        while waiting:
            yield _done(waiting.popleft())


def _done(waited: tuple[_Batch, _Stand, Future[_Encoded]]) -> tuple[_Batch, _Encoded, _Stand]:
    batch, stood, encoded = waited
    return batch, encoded.result(), stood
