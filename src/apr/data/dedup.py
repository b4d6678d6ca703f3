"""Leave out documents that are the bytes of an earlier one, or resemble one: the first is kept, the others are listed.

What was kept lies in a file beside the journal, a line a document, and memory holds 24 bytes of each. So a killed
encoder cuts the file back to where it stood and knows again what it knew then. What resembles is `near_index`'s.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from apr.data.digest_index import DigestIndex
from apr.data.hashed_file import HashedFile, writing
from apr.data.near_index import NearIndex, NearState, Sketch
from apr.data.selection import Chosen
from apr.data.writer import DUPLICATES_NAME, KEPT_NAME, STATE_FOLDER

Dedup = Literal["none", "exact", "near"]
DEDUP_KINDS = ("none", "exact", "near")
EXACT_RULE = "sha256-first-kept-v1"  # names what follows; another rule takes another name
NEAR_RULE = "jaccard-first-kept-v1"  # after the exact one


@dataclass(frozen=True, slots=True, kw_only=True)
class DedupState:
    """How far it had got behind a batch."""

    kept_bytes: int = 0  # of the file of kept documents
    listed_bytes: int = 0  # of the list of dropped ones
    dropped: tuple[
        tuple[int, int, int], ...
    ] = ()  # what each source lost: documents, bytes, how many were near
    near: NearState | None = None  # None where copies are the same bytes


class Deduplicator:
    """Passes on the documents that are no copies of earlier ones, and writes down both kinds.

    A source that is read several times for its weight keeps its repetitions: a copy is what another document has given,
    of the same reading or of an earlier source. What resembles a kept document is left out of every reading.

    Args:
        out: the claimed dataset folder.
        num_sources: of the corpus.
        threshold: from which similarity on a document is a copy; None where it must have the same bytes.
        state: where to go on; None begins anew.

    Raises:
        CannotWrite: from every method, when the operating system refuses.
        EncodingStateBroken: the folder does not hold what was synced.
    """

    def __init__(
        self, out: Path, num_sources: int, *, threshold: float | None = None, state: DedupState | None = None
    ) -> None:
        state = state or DedupState()
        self._kept_path = out / STATE_FOLDER / KEPT_NAME
        self._list_path = out / DUPLICATES_NAME
        self._dropped = np.zeros((num_sources, 3), dtype=np.int64)
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
        self._near = None if threshold is None else NearIndex(out, threshold, state.near)

    @property
    def state(self) -> DedupState:
        """How far it has got; `sync` makes it true of the disk."""
        return DedupState(
            kept_bytes=self._kept.num_bytes,
            listed_bytes=self._list.num_bytes,
            dropped=tuple((int(documents), int(size), int(near)) for documents, size, near in self._dropped),
            near=None if self._near is None else self._near.state,
        )

    def kept(self, batch: Sequence[Chosen]) -> list[Chosen]:
        """The documents of a batch that are no copies, in order."""
        return [chosen for chosen, sketch in self._sketched(batch) if self._takes(chosen, sketch)]

    def sync(self) -> None:
        """Put the files on the disk."""
        with writing(self._kept_path):
            self._kept.sync()
            self._list.sync()
        if self._near is not None:
            self._near.sync()

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
        rows = [
            {"num_documents": documents, "num_bytes": size, "num_near": near}
            for documents, size, near in state.dropped
        ]
        found = {"rule": EXACT_RULE, "dropped": rows, "dropped_sha256": digest.hexdigest()}
        if self._near is not None:
            self._near.abandon()  # nobody reads its files any more
            return {**found, "rule": NEAR_RULE, "near": self._near.record}
        for row in rows:
            del row["num_near"]
        return found

    def abandon(self) -> None:
        """Close the files."""
        self._kept.abandon()
        self._list.abandon()
        if self._near is not None:
            self._near.abandon()

    def _sketched(self, batch: Sequence[Chosen]) -> Iterator[tuple[Chosen, Sketch | None]]:
        """The documents with what they are compared by; None for one whose bytes are known, or that has no words."""
        sketches: dict[int, Sketch | None] = {}
        if self._near is not None:
            new = [place for place, chosen in enumerate(batch) if self._known.get(chosen.sha256) is None]
            made = self._near.sketches([batch[place].document.text for place in new])
            sketches = dict(zip(new, made, strict=True))
        return ((chosen, sketches.get(place)) for place, chosen in enumerate(batch))

    def _takes(self, chosen: Chosen, sketch: Sketch | None) -> bool:
        known = self._known.get(chosen.sha256)
        if known is not None:
            offset, first_source, last_repeat = _unpacked(known)
            is_repetition = first_source == chosen.document.source and last_repeat < chosen.document.repeat
            if not is_repetition:
                self._drop(chosen, offset, None)
                return False
        elif sketch is not None and self._near is not None:
            if (found := self._near.find(sketch)) is not None:
                self._drop(chosen, *found)
                return False
            self._near.add(sketch, line=self._kept.num_bytes)
        self._keep(chosen)
        return True

    def _keep(self, chosen: Chosen) -> None:
        document = chosen.document
        row = [chosen.sha256.hex(), document.source, document.repeat, document.origin]
        self._known.put(chosen.sha256, _packed(self._kept.num_bytes, document.source, document.repeat))
        with writing(self._kept_path):
            self._kept.write(json.dumps(row).encode() + b"\n")

    def _drop(self, chosen: Chosen, offset: int, similarity: float | None) -> None:
        self._dropped[chosen.document.source] += (1, chosen.num_bytes, similarity is not None)
        origin = self._origin_at(offset)
        likeness = (
            {"equals": origin}
            if similarity is None
            else {"resembles": origin, "similarity": round(similarity, 4)}
        )
        row = {
            "document": chosen.document.origin,
            **likeness,
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
