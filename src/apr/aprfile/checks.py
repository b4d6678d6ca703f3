"""Checksums over a whole file in one pass, on every core.

The file is cut at its tensors: each piece is read once, in slices that stay in the cache, and gives a CRC-32
and a sha256 together. Both routines release the interpreter lock on such slices. The CRCs are joined by
arithmetic, so that the footer, which covers everything, does not force a serial pass.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache

from apr.aprfile.errors import PaddingNotZero
from apr.aprfile.index import TensorEntry, in_file_order
from apr.base.environment import cpu_count

Progress = Callable[[int, int], None]  # bytes done, bytes in all

_SLICE_BYTES = 1 << 18  # fits a core's own cache, so the second routine does not read memory again
_POLYNOMIAL = 0xEDB88320


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What a pass over a file found: the CRC-32 of everything, and sha256 of the head and of each tensor."""

    crc: int
    head_digest: str
    digests: dict[str, str]


def scan(
    view: memoryview,
    entries: Sequence[TensorEntry],
    *,
    data_offset: int,
    end: int,
    path: str,
    on_progress: Progress | None = None,
) -> Scan:
    """Hash the bytes `[0, end)`, and check that what belongs to no tensor is zero.

    Args:
        view: the file.
        entries: tensors that own their bytes, apart from each other.
        data_offset: where the head ends.
        end: where the padded contents end.
        path: for messages.
        on_progress: told after each piece.

    Raises:
        PaddingNotZero: naming the byte and what stands before it.
    """
    pieces = [
        ("", 0, data_offset),
        *((entry.name, entry.offset, entry.end) for entry in in_file_order(entries)),
    ]
    found = _hash_pieces(view, pieces, on_progress)
    crc, following = 0, [start for _, start, _ in pieces[1:]] + [end]
    for (name, start, stop), (piece_crc, _), padded_end in zip(pieces, found, following, strict=True):
        crc = join_crc(crc, piece_crc, stop - start)
        check_padding(view, stop, padded_end, part=f"tensor {name}" if name else "the index", path=path)
        crc = join_crc(crc, zlib.crc32(bytes(padded_end - stop)), padded_end - stop)
    digests = {name: digest for (name, _, _), (_, digest) in zip(pieces[1:], found[1:], strict=True)}
    empty = {entry.name: hashlib.sha256().hexdigest() for entry in entries if not entry.size_bytes}
    return Scan(crc=crc, head_digest=found[0][1], digests=digests | empty)


def _hash_pieces(
    view: memoryview, pieces: Sequence[tuple[str, int, int]], on_progress: Progress | None
) -> list[tuple[int, str]]:
    total = sum(stop - start for _, start, stop in pieces)
    done = 0
    # The largest first: one sha256 cannot be split, and the last to finish must be small.
    order = sorted(range(len(pieces)), key=lambda at: pieces[at][1] - pieces[at][2])
    found: list[tuple[int, str]] = [(0, "")] * len(pieces)
    pool = ThreadPoolExecutor(max_workers=cpu_count())
    try:
        pending = {pool.submit(_hash_piece, view, *pieces[at][1:]): at for at in order}
        waiting = set(pending)
        while waiting:
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                at = pending[future]
                found[at] = future.result()
                done += pieces[at][2] - pieces[at][1]
            if on_progress is not None:
                on_progress(done, total)
    finally:
        pool.shutdown(cancel_futures=True)
    return found


def _hash_piece(view: memoryview, start: int, stop: int) -> tuple[int, str]:
    crc, digest = 0, hashlib.sha256()
    for at in range(start, stop, _SLICE_BYTES):
        block = view[at : min(at + _SLICE_BYTES, stop)]
        digest.update(block)
        crc = zlib.crc32(block, crc)
    return crc, digest.hexdigest()


def check_padding(view: memoryview, start: int, stop: int, *, part: str, path: str) -> None:
    """Check that the bytes `[start, stop)` are zero.

    Raises:
        PaddingNotZero: with the first that is not.
    """
    for at in range(start, stop, _SLICE_BYTES):
        block = bytes(view[at : min(at + _SLICE_BYTES, stop)])
        if rest := block.lstrip(b"\0"):
            raise PaddingNotZero(path=path, part=part, offset=at + len(block) - len(rest))


def join_crc(first: int, second: int, second_bytes: int) -> int:
    """CRC-32 of two pieces one after the other, from the CRC of each and the second's length.

    Appending n bytes multiplies the first remainder by x^(8n) modulo the polynomial over GF(2); the initial
    and final complements cancel.
    """
    return _times(_shift(second_bytes), first) ^ second


@lru_cache(maxsize=256)
def _shift(num_bytes: int) -> int:
    power, base = 1 << 31, 1 << 23  # x^0 and x^8, lowest power in the highest bit
    while num_bytes:
        if num_bytes & 1:
            power = _times(base, power)
        base = _times(base, base)
        num_bytes >>= 1
    return power


def _times(left: int, right: int) -> int:
    product = 0
    for bit in range(31, -1, -1):
        if left >> bit & 1:
            product ^= right
        right = right >> 1 ^ _POLYNOMIAL if right & 1 else right >> 1
    return product
