"""The documents that later ones may resemble: keys in memory, shingles on the disk until the encoder ends.

Whatever shares a band with a text is compared with it by the shingles of both, so that no chance of hashing leaves a
document out. Both files are cut back to where they stood when an encoder goes on, and read again.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from apr.data.band_index import BandIndex
from apr.data.hashed_file import HashedFile, writing
from apr.data.minhash import LIBRARY, MINHASH_SEED, band_keys, banding_of
from apr.data.shingles import SHINGLE_RULE, jaccard, shingle_sets
from apr.data.writer import KEYS_NAME, SHINGLES_NAME, STATE_FOLDER

_SHINGLE_BYTES, _WORD_BYTES = 4, 8
_MOST_COMPARED = (
    256  # candidates of a document; pages of one template would else be compared with all others of it
)
_ROWS_AT_ONCE = 1 << 14  # of keys that are read back
_BLANK = 2  # words of a row before its keys: the place of its line, and the number of its shingles


@dataclass(frozen=True, slots=True, kw_only=True)
class NearState:
    """How far it had got behind a batch."""

    keys_bytes: int = 0  # how long both files were
    shingles_bytes: int = 0
    num_crowded: int = 0  # documents that were not compared with all their candidates


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """What a text is compared by."""

    shingles: np.ndarray
    keys: np.ndarray
    older: Sequence[int]  # documents that share a band, but for the latest


class NearIndex:
    """Finds the kept document that a text resembles most of those it was compared with.

    Args:
        out: the claimed dataset folder; its state folder is there.
        threshold: the least similarity.
        state: where to go on; None begins anew.

    Raises:
        CannotWrite: from every method, when the operating system refuses.
        EncodingStateBroken: the folder does not hold what was synced.
    """

    def __init__(self, out: Path, threshold: float, state: NearState | None = None) -> None:
        state = state or NearState()
        self._threshold, self._banding = threshold, banding_of(threshold)
        self._folder = out / STATE_FOLDER
        self._index = BandIndex()
        self._lines, self._starts = array("Q"), array("Q", [0])
        with writing(self._folder):
            self._keys = HashedFile(self._folder / KEYS_NAME, keep_bytes=state.keys_bytes)
            self._shingles = HashedFile(self._folder / SHINGLES_NAME, keep_bytes=state.shingles_bytes)
            self._read_back()
            self._stream: BinaryIO = (self._folder / SHINGLES_NAME).open("rb")
        self._flushed_bytes = state.shingles_bytes
        self._num_crowded = state.num_crowded

    @property
    def state(self) -> NearState:
        """How far it has got; `sync` makes it true of the disk."""
        return NearState(
            keys_bytes=self._keys.num_bytes,
            shingles_bytes=self._shingles.num_bytes,
            num_crowded=self._num_crowded,
        )

    @property
    def record(self) -> Mapping[str, Any]:
        """What a manifest says."""
        return {**near_record(self._threshold), "num_crowded": self._num_crowded}

    def sketches(self, texts: Sequence[str]) -> list[Sketch | None]:
        """What a batch of texts is compared by, of which `find` is to be asked before the next batch.

        None stands for a text that has nothing but spaces.
        """
        sets = shingle_sets(texts)
        keys = band_keys([shingles for shingles in sets if len(shingles)], self._banding)
        found = zip(keys, self._index.in_arrays(keys), strict=True)
        return [_sketch(shingles, *next(found)) if len(shingles) else None for shingles in sets]

    def find(self, sketch: Sketch) -> tuple[int, float] | None:
        """The place of the line of a kept document that resembles this one, and their similarity.

        The first candidate over the threshold is taken; candidates that share more bands come before others, and
        earlier documents before later ones. No more than _MOST_COMPARED are compared.
        """
        num_compared = 0
        for number in self._index.candidates(sketch.keys, sketch.older):
            if not self._may_resemble(len(sketch.shingles), number):
                continue
            if num_compared == _MOST_COMPARED:
                self._num_crowded += 1
                break
            num_compared += 1
            similarity = self._similarity(sketch.shingles, number)
            if similarity >= self._threshold:
                return self._lines[number], similarity
        return None

    def add(self, sketch: Sketch, line: int) -> None:
        """Compare later documents with this one.

        Args:
            line: the place of its line among the kept documents.
        """
        self._index.put(sketch.keys, len(self._lines))
        self._note(line, len(sketch.shingles))
        row = np.concatenate([np.array([line, len(sketch.shingles)], dtype=np.uint64), sketch.keys])
        with writing(self._folder):
            self._keys.write(row.astype("<u8").tobytes())
            self._shingles.write(sketch.shingles.astype("<u4").tobytes())

    def sync(self) -> None:
        """Put both files on the disk."""
        with writing(self._folder):
            self._keys.sync()
            self._shingles.sync()

    def abandon(self) -> None:
        """Close the files."""
        self._keys.abandon()
        self._shingles.abandon()
        self._stream.close()

    def _note(self, line: int, num_shingles: int) -> None:
        self._lines.append(line)
        self._starts.append(self._starts[-1] + num_shingles)

    def _read_back(self) -> None:
        width = _BLANK + self._banding.num_bands
        with (self._folder / KEYS_NAME).open("rb") as stream:
            while block := stream.read(_ROWS_AT_ONCE * width * _WORD_BYTES):
                rows = np.frombuffer(block, dtype="<u8").reshape(-1, width)
                self._index.put_many(rows[:, _BLANK:].astype(np.uint64), len(self._lines))
                for line, num_shingles in rows[:, :_BLANK].tolist():
                    self._note(line, num_shingles)

    def _may_resemble(self, num_shingles: int, number: int) -> bool:
        """Whether two sets of these sizes can be similar enough, were one to hold the other."""
        shorter, longer = sorted((num_shingles, self._starts[number + 1] - self._starts[number]))
        return shorter / longer >= self._threshold

    def _similarity(self, shingles: np.ndarray, number: int) -> float:
        start, end = self._starts[number], self._starts[number + 1]
        return jaccard(shingles, self._stored(start * _SHINGLE_BYTES, end * _SHINGLE_BYTES))

    def _stored(self, start: int, end: int) -> np.ndarray:
        with writing(self._folder):
            if end > self._flushed_bytes:
                self._shingles.flush()
                self._flushed_bytes = self._shingles.num_bytes
            content = os.pread(self._stream.fileno(), end - start, start)
        return np.frombuffer(content, dtype="<u4")


def _sketch(shingles: np.ndarray, keys: np.ndarray, older: Sequence[int]) -> Sketch:
    return Sketch(shingles=shingles, keys=keys, older=older)


def near_record(threshold: float) -> dict[str, Any]:
    """What decides which documents resemble each other, for a manifest and a plan."""
    banding = banding_of(threshold)
    return {
        "threshold": threshold,
        "shingles": SHINGLE_RULE,
        "library": LIBRARY,
        "seed": MINHASH_SEED,
        "num_bands": banding.num_bands,
        "num_rows": banding.num_rows,
    }
