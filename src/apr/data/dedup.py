"""Leave out documents that are the bytes of an earlier one: the first is kept, and each that is not is listed.

What was kept lies in a file beside the journal, a line a document, and memory holds 24 bytes of each. So a killed
encoder cuts the file back to where it stood and knows again what it knew then.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from apr.data.digest_index import DigestIndex
from apr.data.hashed_file import HashedFile, writing
from apr.data.selection import Chosen
from apr.data.writer import DUPLICATES_NAME, KEPT_NAME, STATE_FOLDER

Dedup = Literal["none", "exact"]
DEDUP_KINDS = ("none", "exact")
EXACT_RULE = "sha256-first-kept-v1"  # names what follows; another rule takes another name


@dataclass(frozen=True, slots=True, kw_only=True)
class DedupState:
    """How far it had got behind a batch."""

    kept_bytes: int = 0  # of the file of kept documents
    listed_bytes: int = 0  # of the list of dropped ones
    dropped: tuple[tuple[int, int], ...] = ()  # documents and bytes that each source lost


class Deduplicator:
    """Passes on the documents that are no copies of earlier ones, and writes down both kinds.

    A source that is read several times for its weight keeps its repetitions: a copy is what another document has given,
    of the same reading or of an earlier source.

    Args:
        out: the claimed dataset folder.
        num_sources: of the corpus.
        state: where to go on; None begins anew.

    Raises:
        CannotWrite: from every method, when the operating system refuses.
        EncodingStateBroken: the folder does not hold what was synced.
    """

    def __init__(self, out: Path, num_sources: int, state: DedupState | None = None) -> None:
        state = state or DedupState()
        self._kept_path = out / STATE_FOLDER / KEPT_NAME
        self._list_path = out / DUPLICATES_NAME
        self._dropped = np.zeros((num_sources, 2), dtype=np.int64)
        with writing(out):
            (out / STATE_FOLDER).mkdir(parents=True, exist_ok=True)
            self._kept = HashedFile(self._kept_path, keep_bytes=state.kept_bytes)
            self._list = HashedFile(self._list_path, keep_bytes=state.listed_bytes)
        if state.dropped:
            self._dropped += np.array(state.dropped, dtype=np.int64)
        # Of each kept text: where its line is, its source, and the last reading of it that it was kept in.
        self._known = DigestIndex()
        for offset, line in _lines(self._kept_path, state.kept_bytes):
            digest, source, repeat, _ = json.loads(line)
            self._known.put(bytes.fromhex(digest), _packed(offset, source, repeat))

    @property
    def state(self) -> DedupState:
        """How far it has got; `sync` makes it true of the disk."""
        dropped = tuple((int(documents), int(size)) for documents, size in self._dropped)
        return DedupState(kept_bytes=self._kept.num_bytes, listed_bytes=self._list.num_bytes, dropped=dropped)

    def kept(self, documents: Iterable[Chosen]) -> Iterator[Chosen]:
        """The documents that are no copies, in order."""
        for chosen in documents:
            source, repeat = chosen.document.source, chosen.document.repeat
            known = self._known.get(chosen.sha256)
            if known is not None:
                offset, first_source, last_repeat = _unpacked(known)
                if not (first_source == source and last_repeat < repeat):
                    self._drop(chosen, offset)
                    continue
            self._keep(chosen)
            yield chosen

    def sync(self) -> None:
        """Put both files on the disk."""
        with writing(self._kept_path):
            self._kept.sync()
            self._list.sync()

    def seal(self) -> dict[str, Any]:
        """Put the list on the disk and close; returns what a manifest says of it, but for the sources' names."""
        state = self.state
        with writing(self._kept_path):
            self._kept.seal()
            self._list.seal()
        # Over the texts and not the list, so that it does not depend on where the corpus lay.
        digest = hashlib.sha256()
        for _, line in _lines(self._list_path, state.listed_bytes):
            digest.update(bytes.fromhex(json.loads(line)["sha256"]))
        dropped = [{"num_documents": documents, "num_bytes": size} for documents, size in state.dropped]
        return {"rule": EXACT_RULE, "dropped": dropped, "dropped_sha256": digest.hexdigest()}

    def abandon(self) -> None:
        """Close the files."""
        self._kept.abandon()
        self._list.abandon()

    def _keep(self, chosen: Chosen) -> None:
        document = chosen.document
        row = [chosen.sha256.hex(), document.source, document.repeat, document.origin]
        self._known.put(chosen.sha256, _packed(self._kept.num_bytes, document.source, document.repeat))
        with writing(self._kept_path):
            self._kept.write(json.dumps(row).encode() + b"\n")

    def _drop(self, chosen: Chosen, offset: int) -> None:
        self._dropped[chosen.document.source] += (1, chosen.num_bytes)
        row = {
            "document": chosen.document.origin,
            "equals": self._origin_at(offset),
            "num_bytes": chosen.num_bytes,
            "sha256": chosen.sha256.hex(),
        }
        with writing(self._kept_path):
            self._list.write(json.dumps(row).encode() + b"\n")

    def _origin_at(self, offset: int) -> str:
        with writing(self._kept_path):
            self._kept.flush()
            with self._kept_path.open("rb") as stream:
                stream.seek(offset)
                origin: str = json.loads(stream.readline())[3]
        return origin


def dedup_record(found: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """What a manifest says, with the names of the sources."""
    dropped = [{"name": name, **counts} for name, counts in zip(names, found["dropped"], strict=True)]
    return {**found, "dropped": dropped}


def _lines(path: Path, num_bytes: int) -> Iterator[tuple[int, bytes]]:
    """The lines of a file up to a byte, each with where it begins."""
    offset = 0
    with path.open("rb") as stream:
        while offset < num_bytes:
            line = stream.readline()
            yield offset, line
            offset += len(line)


def _packed(offset: int, source: int, repeat: int) -> int:
    return offset << 26 | source << 10 | repeat  # 256 GiB of lines, 65,536 sources, 1,000 readings


def _unpacked(value: int) -> tuple[int, int, int]:
    return value >> 26, value >> 10 & 0xFFFF, value & 0x3FF
