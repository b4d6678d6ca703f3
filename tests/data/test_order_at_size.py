"""The order of windows at ten sizes up to 10^12: a bijection, one sequence for 1 process and 64, constant memory."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from apr.data.batches import BatchStream
from apr.data.order import Permutation

SAMPLED = 1_000_000
SIZES = (1, 7, 64, 1_000, 65_537, 1_000_000, 10**8, 10**9 + 7, 10**11, 10**12)
DOCS = Path(__file__).parents[2] / "docs/data.md"


def is_exhaustive(n: int) -> bool:
    return n <= SAMPLED


def sample(n: int) -> np.ndarray:
    """All positions, or a million of them: both ends, and one somewhere in each of a million equal stretches."""
    if is_exhaustive(n):
        return np.arange(n)
    stretch = n // SAMPLED
    found = np.arange(SAMPLED) * stretch + np.random.default_rng(n).integers(0, stretch, SAMPLED)
    found[[0, -1]] = 0, n - 1
    return found


def positions_of(permutation: Permutation, windows: np.ndarray) -> np.ndarray:
    """Where windows stand in the order: the network run backwards, and out of what lies beyond n again."""
    n, half, mask = permutation.n, permutation._half_bits, permutation._mask

    def backwards(values: np.ndarray) -> np.ndarray:
        left, right = values >> half, values & mask
        for key in permutation._round_keys[::-1]:
            mixed = (left ^ key) + np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            left, right = right ^ ((mixed ^ (mixed >> np.uint64(31))) & mask), left
        return (left << half) | right

    values = backwards(windows.astype(np.uint64))
    while (outside := values >= np.uint64(n)).any():
        values[outside] = backwards(values[outside])
    return values.astype(np.int64)


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("n", SIZES)
def test_it_is_a_bijection(n: int, epoch: int) -> None:
    permutation, positions = Permutation(n, 42, epoch), sample(n)
    found = permutation.many(positions)
    assert len(positions) == min(n, SAMPLED)
    assert len(np.unique(found)) == len(positions)
    assert 0 <= found.min() <= found.max() < n
    assert np.array_equal(positions_of(permutation, found), positions)
    # And onto: what stands at the position that a window is said to have is that window.
    windows = sample(n)[::7]
    assert np.array_equal(permutation.many(positions_of(permutation, windows)), windows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endless:
    """A dataset of any size: windows of four, all of the id 1."""

    total_tokens: int
    folder: Path = Path("endless")

    def slice(self, start: int, stop: int) -> np.ndarray:
        return np.ones(stop - start, dtype=np.uint32)

    def require_unchanged(self) -> None:
        return None


def stream(n: int, batch_size: int = 8, cursor: int = 0) -> BatchStream:
    return BatchStream(Endless(total_tokens=4 * n + 1), 4, batch_size, 42, True, cursor)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", SIZES)
def test_1_process_and_64_see_the_same_sequence(n: int) -> None:
    """Across the end of an epoch too, from where the cursor stands."""
    cursor = max(0, n - 300)
    whole, shares = stream(n, cursor=cursor), [stream(n, cursor=cursor) for _ in range(64)]
    for _ in range(1 if n < 8 else 2):  # there an epoch ends with nearly every window
        expected = [index for batch in whole.next_step(32) for index in batch.window_indices]
        taken = [
            [index for batch in share.next_step(32, rank, 64) for index in batch.window_indices]
            for rank, share in enumerate(shares)
        ]
        assert {len(own) for own in taken} == {256 // 64}
        assert [index for own in taken for index in own] == expected
        assert {share.cursor for share in shares} == {whole.cursor}


@pytest.mark.parametrize("n", SIZES[2:])
def test_every_epoch_has_another_order(n: int) -> None:
    begun = [stream(n, cursor=epoch * n).planned_windows(8).tolist() for epoch in range(4)]
    assert len({tuple(windows) for windows in begun}) == 4
    assert len({tuple(sorted(windows)) for windows in begun}) == (4 if n > 64 else 1)


def peak_bytes(n: int) -> int:
    """What it takes to open a stream in the middle of its second epoch and take a step of 64 windows."""
    tracemalloc.start()
    try:
        stream(n, cursor=n + n // 2).next_step(8)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_constant() -> None:
    peak_bytes(1000)  # what is made once
    small, large = peak_bytes(1000), peak_bytes(10**12)
    assert abs(large - small) < 2048  # integers above 2^30 take four bytes more
    assert small < 100_000


def table() -> str:
    """The rows of docs/data.md."""
    rows = []
    for n in SIZES:
        how = "all of them" if is_exhaustive(n) else f"{SAMPLED:,} of them"
        first = [
            ", ".join(f"{w:,}".replace(",", " ") for w in Permutation(n, 42, e).many(np.arange(min(3, n))))
            for e in (0, 1)
        ]
        rows.append(f"| {n:,} | {how} | {first[0]} | {first[1]} |")
    return "\n".join(rows)


def test_the_table_in_the_docs_is_this_one() -> None:
    assert table() in DOCS.read_text(encoding="utf-8")
