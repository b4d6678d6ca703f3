"""The ledger of an encoding: a line of fixed size for every document taken, in the order of the corpus.

It lies on the disk and not in memory, and what a manifest says of the corpus is a sum over it. So it can be cut back
to where a killed encoder stood, and the ledgers of several machines can be put one behind the other, and the sums are
those of one undisturbed run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apr.data.hashed_file import HashedFile, writing
from apr.data.manifest import SourceRecord
from apr.data.writer import LEDGER_NAME

ROW = np.dtype(
    [
        ("sha256", "u1", 32),  # of the document's text in UTF-8
        ("num_bytes", "<u8"),  # of that text
        ("num_tokens", "<u8"),  # without a separator
        ("source", "<u2"),
        ("repeat", "<u2"),
        ("is_validation", "<u4"),
    ]
)
_BLOCK_ROWS = 1 << 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line: what is known of a document besides its tokens."""

    sha256: bytes
    num_bytes: int
    num_tokens: int
    source: int
    repeat: int
    is_validation: bool

    @classmethod
    def from_row(cls, row: np.void) -> Entry:
        """Read a line of a ledger, a scalar of ROW."""
        return cls(
            sha256=row["sha256"].tobytes(),
            num_bytes=int(row["num_bytes"]),
            num_tokens=int(row["num_tokens"]),
            source=int(row["source"]),
            repeat=int(row["repeat"]),
            is_validation=bool(row["is_validation"]),
        )

    def to_bytes(self) -> bytes:
        """The line as it is stored, in the order of ROW."""
        return b"".join(
            (
                self.sha256,
                self.num_bytes.to_bytes(8, "little"),
                self.num_tokens.to_bytes(8, "little"),
                self.source.to_bytes(2, "little"),
                self.repeat.to_bytes(2, "little"),
                self.is_validation.to_bytes(4, "little"),
            )
        )


class LedgerWriter:
    """Appends lines to a ledger.

    Args:
        folder: where.
        num_rows: lines to keep of the ledger that is there; what stands behind them is cut off.

    Raises:
        CannotWrite: from every method, when the operating system refuses.
        EncodingStateBroken: there are fewer lines.
    """

    def __init__(self, folder: Path, num_rows: int = 0) -> None:
        self.path = folder / LEDGER_NAME
        self.num_rows = num_rows
        with writing(folder):
            self._file = HashedFile(self.path, keep_bytes=num_rows * ROW.itemsize)

    def add(self, entry: Entry) -> None:
        """Append a line."""
        with writing(self.path):
            self._file.write(entry.to_bytes())
        self.num_rows += 1

    def sync(self) -> None:
        """Put the lines on the disk."""
        with writing(self.path):
            self._file.sync()

    def seal(self) -> str:
        """Put the lines on the disk and close the file; returns its sha256."""
        with writing(self.path):
            return self._file.seal()

    def abandon(self) -> None:
        """Close the file."""
        self._file.abandon()


def ledger_rows(path: Path) -> Iterator[np.ndarray]:
    """The lines of a ledger, a block at a time: each [at most _BLOCK_ROWS] of ROW."""
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_ROWS * ROW.itemsize):
            yield np.frombuffer(block, dtype=ROW)


def corpus_digest(path: Path) -> str:
    """sha256 over the sha256 of each document, in order.

    It depends on the texts and their order only, not on files, paths or compression.
    """
    digest = hashlib.sha256()
    for rows in ledger_rows(path):
        digest.update(np.ascontiguousarray(rows["sha256"]).tobytes())
    return digest.hexdigest()


def source_records(
    path: Path, names_and_weights: Sequence[tuple[str, float]], *, is_validation: bool
) -> tuple[SourceRecord, ...]:
    """What each source gave to one side of the split."""
    sums = np.zeros((len(names_and_weights), 3), dtype=np.int64)
    for rows in ledger_rows(path):
        chosen = rows[rows["is_validation"] == int(is_validation)]
        np.add.at(sums[:, 0], chosen["source"], 1)
        np.add.at(sums[:, 1], chosen["source"], chosen["num_tokens"].astype(np.int64))
        np.add.at(sums[:, 2], chosen["source"], chosen["num_bytes"].astype(np.int64))
    return tuple(
        SourceRecord(
            name=name,
            weight=weight,
            num_documents=int(documents),
            num_tokens=int(tokens),
            num_bytes=int(size),
        )
        for (name, weight), (documents, tokens, size) in zip(names_and_weights, sums, strict=True)
    )
