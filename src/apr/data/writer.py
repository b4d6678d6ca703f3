"""A dataset folder while it is being written: claimed, filled, sealed.

A folder is claimed by a manifest that says "in progress" before anything in it is touched, and sealed by the
complete one after everything else is on the disk; at every moment between, every reader refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apr.base.errors import BadJson, CannotWrite, OutputExists
from apr.base.files import fsync, read_json, write_json
from apr.data.errors import EncodingStateBroken
from apr.data.hashed_file import HashedFile, writing
from apr.data.manifest import (
    DOCUMENTS_NAME,
    IN_PROGRESS,
    MANIFEST_NAME,
    Manifest,
    ShardRecord,
    read_manifest,
    shard_name,
    write_in_progress,
)

TOKEN_BYTES = 4
OFFSET_BYTES = 8
STATE_FOLDER = ".encoding"  # in a dataset folder, while it is being encoded
JOURNAL_NAME = "journal.json"
LEDGER_NAME = "ledger.log"  # in the state folder, and in a finished part
KEPT_NAME = "kept.jsonl"  # in the state folder: the documents that later ones are compared with
KEYS_NAME = "keys.bin"  # in the state folder: what near-duplicates are looked for by
SHINGLES_NAME = "shingles.bin"  # in the state folder: what they are compared by
DUPLICATES_NAME = "duplicates.jsonl"  # in the dataset folder: the documents that were left out
_SHARD_FILE = re.compile(r"shard-\d{5,}\.bin")


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterState:
    """How far a dataset had got when it was last synced."""

    shards: tuple[ShardRecord, ...] = ()  # the full ones
    total_tokens: int = 0
    total_documents: int = 0


class DatasetWriter:
    """Appends documents to the shards of a claimed folder.

    Args:
        folder: claimed with `claim_folder`.
        shard_tokens: tokens in every shard but the last; documents run across shard borders.
        state: where to go on; what stands behind it is thrown away.

    Raises:
        CannotWrite: from every method, when the operating system refuses.
        EncodingStateBroken: the folder does not hold what was synced.
    """

    def __init__(self, folder: Path, shard_tokens: int, state: WriterState | None = None) -> None:
        state = state or WriterState()
        self._folder = folder
        self._shard_bytes = shard_tokens * TOKEN_BYTES
        self._sealed = list(state.shards)
        self.total_tokens = state.total_tokens
        self.total_documents = state.total_documents
        begun_bytes = (state.total_tokens - sum(shard.num_tokens for shard in state.shards)) * TOKEN_BYTES
        _require_whole(folder, state.shards)
        with writing(folder):
            _remove_dataset_files(folder, keep=_kept_names(state, begun_bytes))
            self._documents = HashedFile(
                folder / DOCUMENTS_NAME, keep_bytes=state.total_documents * OFFSET_BYTES
            )
            self._shard = self._open_shard(begun_bytes) if begun_bytes else None

    @property
    def state(self) -> WriterState:
        """How far it has got; `sync` makes it true of the disk."""
        return WriterState(
            shards=tuple(self._sealed), total_tokens=self.total_tokens, total_documents=self.total_documents
        )

    def start_document(self) -> None:
        """Note that the next token is the first of a document."""
        with writing(self._folder):
            self._documents.write(self.total_tokens.to_bytes(OFFSET_BYTES, "little"))
        self.total_documents += 1

    def append(self, ids: np.ndarray) -> None:
        """Append ids, each known to be from 0 to 2**32 - 1, to the stream of tokens."""
        content = memoryview(ids.astype("<u4").tobytes())
        self.total_tokens += len(ids)
        with writing(self._folder):
            while content:
                if self._shard is None:
                    self._shard = self._open_shard()
                room = self._shard_bytes - self._shard.num_bytes
                self._shard.write(content[:room])
                content = content[room:]
                if self._shard.num_bytes == self._shard_bytes:
                    self._seal_shard()

    def sync(self) -> None:
        """Put what was written on the disk, the names of the files too."""
        with writing(self._folder):
            self._documents.sync()
            if self._shard is not None:
                self._shard.sync()
            fsync(self._folder)

    def seal(self) -> str:
        """Put everything on the disk and close; returns the sha256 of the document offsets."""
        with writing(self._folder):
            if self._shard is not None:
                self._seal_shard()
            return self._documents.seal()

    def abandon(self) -> None:
        """Close the files; the folder stays claimed."""
        self._documents.abandon()
        if self._shard is not None:
            self._shard.abandon()

    def _open_shard(self, keep_bytes: int = 0) -> HashedFile:
        return HashedFile(self._folder / shard_name(len(self._sealed)), keep_bytes=keep_bytes)

    def _seal_shard(self) -> None:
        assert self._shard is not None
        num_tokens = self._shard.num_bytes // TOKEN_BYTES
        name = shard_name(len(self._sealed))
        self._sealed.append(ShardRecord(name=name, sha256=self._shard.seal(), num_tokens=num_tokens))
        self._shard = None


def require_free(folder: Path, *, force: bool) -> None:
    """Refuse an output folder that holds anything but an unfinished dataset, unless `force`.

    Raises:
        OutputExists: it holds something.
        CannotWrite: it is not a folder.
    """
    if folder.exists() and not folder.is_dir():
        raise CannotWrite(path=str(folder), reason="it is a file")
    if not folder.is_dir() or force or status_of(folder) == IN_PROGRESS:
        return
    if not all(_is_leftover(path) or path.name == STATE_FOLDER for path in folder.iterdir()):
        raise OutputExists(path=str(folder))


def status_of(folder: Path) -> str | None:
    """What the manifest in a folder says of its dataset; None when there is no such manifest."""
    return _claim_of(folder).get("status")


def claim_folder(folder: Path, tokenizer_sha256: str) -> None:
    """Mark the folder as in progress, then remove what an earlier dataset left there, and nothing else.

    The journal of an earlier encoder goes first: from then on nobody goes on from it with other files.

    Raises:
        CannotWrite: the operating system refused.
    """
    _forget_journal(folder)
    write_in_progress(folder, tokenizer_sha256)
    with writing(folder):
        _remove_dataset_files(folder)


def remove_dataset(folder: Path) -> None:
    """Remove an earlier dataset's files, if there is one, and the folder when nothing else is in it.

    Raises:
        CannotWrite: the operating system refused.
    """
    claim = _claim_of(folder)
    if not claim:
        return
    if claim.get("status") != IN_PROGRESS:
        # From here on no reader takes the folder, and whoever finds it half removed knows whose it was. On a full disk
        # it cannot be said, and removing is what helps.
        with suppress(CannotWrite):
            write_in_progress(folder, str(claim["tokenizer_sha256"]))
    with writing(folder):
        _remove_dataset_files(folder)
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
        _remove_if_empty(folder)


def discard_unfinished(folder: Path, held_out: Path) -> None:
    """Remove a dataset that its encoder gave up, with its held-out part; a complete one is left alone.

    Raises:
        CannotWrite: the operating system refused.
    """
    _forget_journal(folder)
    if status_of(folder) == IN_PROGRESS:  # the claim on the folder covers its held-out part, sealed or not
        remove_dataset(held_out)
        remove_state(folder)
        remove_dataset(folder)
    else:
        remove_state(folder)
        with writing(folder):
            _remove_if_empty(folder)


def remove_state(folder: Path) -> None:
    """Remove what an encoder kept to go on from, its journal last: until then the next one clears up.

    Raises:
        CannotWrite: the operating system refused.
    """
    state = folder / STATE_FOLDER
    if not state.is_dir():
        return
    with writing(state):
        for path in state.iterdir():
            if path.name != JOURNAL_NAME:
                path.unlink()
        (state / JOURNAL_NAME).unlink(missing_ok=True)
        state.rmdir()


def seal_folder(folder: Path, manifest: Manifest) -> None:
    """Finish a dataset: write its manifest and read it back.

    Raises:
        CannotWrite: the operating system refused.
    """
    write_json(folder / MANIFEST_NAME, manifest.to_dict())
    assert read_manifest(folder) == manifest, "a manifest must read back as it was written"


def _forget_journal(folder: Path) -> None:
    with writing(folder):
        (folder / STATE_FOLDER / JOURNAL_NAME).unlink(missing_ok=True)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _claim_of(folder: Path) -> dict[str, Any]:
    """What the manifest of an earlier dataset says; nothing, when there is no such manifest."""
    path = folder / MANIFEST_NAME
    try:
        values = read_json(path) if path.is_file() else {}
    except BadJson:
        return {}
    return values if "tokenizer_sha256" in values else {}


def _remove_dataset_files(folder: Path, keep: Collection[str] = ()) -> None:
    for path in folder.iterdir():
        is_ours = (
            path.name in (DOCUMENTS_NAME, LEDGER_NAME, DUPLICATES_NAME)
            or _SHARD_FILE.fullmatch(path.name)
            or _is_leftover(path)
        )
        if is_ours and path.name not in keep:
            path.unlink()


def _is_leftover(path: Path) -> bool:
    """Whether it is a manifest that a killed encoder had not yet given its name."""
    return path.name.startswith(f".{MANIFEST_NAME}.") and path.name.endswith(".tmp")


def _kept_names(state: WriterState, begun_bytes: int) -> set[str]:
    # The list of duplicates is cut back by who writes it.
    names = {DOCUMENTS_NAME, DUPLICATES_NAME} if state.total_documents else {DUPLICATES_NAME}
    return names | {shard_name(index) for index in range(len(state.shards) + bool(begun_bytes))}


def _require_whole(folder: Path, shards: Sequence[ShardRecord]) -> None:
    for shard in shards:
        path = folder / shard.name
        if not path.is_file() or path.stat().st_size != shard.num_tokens * TOKEN_BYTES:
            raise EncodingStateBroken(path=str(path), reason=f"it has not its {shard.num_tokens} tokens")
