"""A dataset folder while it is being written: claimed, filled, sealed.

A folder is claimed by a manifest that says "in progress" before anything in it is touched, and sealed by the
complete one after everything else is on the disk; at every moment between, every reader refuses it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from apr.base.errors import BadJson, CannotWrite, OutputExists
from apr.base.files import read_json, write_json
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
_SHARD_FILE = re.compile(r"shard-\d{5,}\.bin")


class _HashedFile:
    """A file under its final name, hashed while it is written and on the disk when it is closed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: BinaryIO = path.open("wb")
        self._digest = hashlib.sha256()
        self.num_bytes = 0

    def write(self, content: bytes | memoryview) -> None:
        self._stream.write(content)
        self._digest.update(content)
        self.num_bytes += len(content)

    def seal(self) -> str:
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        return self._digest.hexdigest()

    def abandon(self) -> None:
        with suppress(OSError):  # on a full disk closing fails too: what it still held is given up
            self._stream.close()


class DatasetWriter:
    """Appends documents to the shards of a claimed folder.

    Args:
        folder: claimed with `claim_folder`.
        shard_tokens: tokens in every shard but the last; documents run across shard borders.

    Raises:
        CannotWrite: from every method, when the operating system refuses.
    """

    def __init__(self, folder: Path, shard_tokens: int) -> None:
        self._folder = folder
        self._shard_bytes = shard_tokens * TOKEN_BYTES
        self._shard: _HashedFile | None = None
        self._sealed: list[ShardRecord] = []
        self.total_tokens = 0
        self.total_documents = 0
        with _writing(folder):
            self._documents = _HashedFile(folder / DOCUMENTS_NAME)

    def start_document(self) -> None:
        """Note that the next token is the first of a document."""
        with _writing(self._folder):
            self._documents.write(self.total_tokens.to_bytes(OFFSET_BYTES, "little"))
        self.total_documents += 1

    def append(self, ids: np.ndarray) -> None:
        """Append ids, each known to be from 0 to 2**32 - 1, to the stream of tokens."""
        content = memoryview(ids.astype("<u4").tobytes())
        self.total_tokens += len(ids)
        with _writing(self._folder):
            while content:
                if self._shard is None:
                    self._shard = _HashedFile(self._folder / shard_name(len(self._sealed)))
                room = self._shard_bytes - self._shard.num_bytes
                self._shard.write(content[:room])
                content = content[room:]
                if self._shard.num_bytes == self._shard_bytes:
                    self._seal_shard()

    def seal(self) -> tuple[tuple[ShardRecord, ...], str]:
        """Put everything on the disk; returns the shards and the sha256 of the document offsets."""
        with _writing(self._folder):
            if self._shard is not None:
                self._seal_shard()
            return tuple(self._sealed), self._documents.seal()

    def abandon(self) -> None:
        """Close the files; the folder stays claimed."""
        self._documents.abandon()
        if self._shard is not None:
            self._shard.abandon()

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
    if folder.is_dir() and any(folder.iterdir()) and not (force or _is_unfinished(folder)):
        raise OutputExists(path=str(folder))


def claim_folder(folder: Path, tokenizer_sha256: str) -> None:
    """Mark the folder as in progress, then remove what an earlier dataset left there, and nothing else.

    Raises:
        CannotWrite: the operating system refused.
    """
    write_in_progress(folder, tokenizer_sha256)
    with _writing(folder):
        _remove_dataset_files(folder)


def remove_dataset(folder: Path) -> None:
    """Remove an earlier dataset's files, if there is one, and the folder when nothing else is in it.

    Raises:
        CannotWrite: the operating system refused.
    """
    if not _claim_of(folder):
        return
    with _writing(folder):
        (folder / MANIFEST_NAME).unlink(missing_ok=True)  # first: from here on no reader takes the folder
        _remove_dataset_files(folder)
        if not any(folder.iterdir()):
            folder.rmdir()


def discard_unfinished(folder: Path, held_out: Path) -> None:
    """Remove a dataset that its encoder gave up, with its held-out part; a complete one is left alone.

    Raises:
        CannotWrite: the operating system refused.
    """
    if _is_unfinished(folder):  # the claim on the folder covers its held-out part, sealed or not
        remove_dataset(held_out)
        remove_dataset(folder)


def seal_folder(folder: Path, manifest: Manifest) -> None:
    """Finish a dataset: write its manifest and read it back.

    Raises:
        CannotWrite: the operating system refused.
    """
    write_json(folder / MANIFEST_NAME, manifest.to_dict())
    assert read_manifest(folder) == manifest, "a manifest must read back as it was written"


def _is_unfinished(folder: Path) -> bool:
    return _claim_of(folder).get("status") == IN_PROGRESS


def _claim_of(folder: Path) -> dict[str, Any]:
    """What the manifest of an earlier dataset says; nothing, when there is no such manifest."""
    path = folder / MANIFEST_NAME
    try:
        values = read_json(path) if path.is_file() else {}
    except BadJson:
        return {}
    return values if "tokenizer_sha256" in values else {}


def _remove_dataset_files(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name == DOCUMENTS_NAME or _SHARD_FILE.fullmatch(path.name):
            path.unlink()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotWrite(path=error.filename or str(folder), reason=error.strerror or str(error)) from error
