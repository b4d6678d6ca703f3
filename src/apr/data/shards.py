"""Token shards as one long array, memory-mapped, after proof that they are what their manifest says."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal

import numpy as np

from apr.base.environment import cpu_count
from apr.base.errors import BadOption, CannotRead
from apr.base.files import sha256_file
from apr.data.errors import (
    DocumentsChanged,
    ShardChanged,
    ShardChangedInUse,
    ShardIdTooLarge,
    ShardMissing,
    ShardNotWhole,
    ShardSizeChanged,
    ShardUnexpected,
)
from apr.data.manifest import DOCUMENTS_NAME, Manifest, ShardRecord, read_manifest
from apr.data.writer import OFFSET_BYTES, TOKEN_BYTES

Check = Literal["full", "structure"]
_TOKEN = np.dtype("<u4")
_BLOCK_BYTES = 1 << 22  # a multiple of TOKEN_BYTES


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenDataset:
    """The tokens of a dataset folder; made by `open_dataset`."""

    folder: Path
    manifest: Manifest
    shards: tuple[np.ndarray, ...]  # each [num_tokens] u32, memory-mapped
    starts: np.ndarray  # [shards + 1] i64: where each shard begins, and the end
    document_starts: np.ndarray  # [documents] u64, memory-mapped, in tokens
    stamps: tuple[tuple[int, ...], ...] = ()  # of each shard when it was checked, see `file_stamp`

    @property
    def total_tokens(self) -> int:
        """Tokens in all shards."""
        return self.manifest.total_tokens

    @property
    def dataset_digest(self) -> str:
        """Identity of the dataset, see `Manifest.digest`."""
        return self.manifest.digest

    def slice(self, start: int, stop: int) -> np.ndarray:
        """Copy the tokens from `start` to `stop`, across shard borders.

        Returns:
            [stop - start] u32.

        Raises:
            IndexError: not 0 <= start <= stop <= total_tokens.
        """
        if not 0 <= start <= stop <= self.total_tokens:
            raise IndexError(f"tokens {start} to {stop} of {self.total_tokens}")
        tokens = np.empty(stop - start, dtype=np.uint32)
        index = int(np.searchsorted(self.starts, start, side="right")) - 1
        done = 0
        while done < len(tokens):
            offset = start + done - int(self.starts[index])
            piece = self.shards[index][offset : offset + len(tokens) - done]
            tokens[done : done + len(piece)] = piece
            done += len(piece)
            index += 1
        return tokens

    def document(self, index: int, max_tokens: int) -> np.ndarray:
        """Copy the first tokens of a document, its separator included: [at most max_tokens] u32."""
        start = int(self.document_starts[index])
        last = index + 1 == len(self.document_starts)
        stop = self.total_tokens if last else int(self.document_starts[index + 1])
        return self.slice(start, min(stop, start + max_tokens))

    def require_unchanged(self) -> None:
        """Look whether a shard was written to, cut or replaced since it was checked.

        Raises:
            ShardChangedInUse: it was.
        """
        for shard, stamp in zip(self.manifest.shards, self.stamps, strict=False):
            path = self.folder / shard.name
            found = file_stamp(path)
            if found != stamp:
                reason = "it is gone" if not found else "its size, time or place on the disk is another"
                raise ShardChangedInUse(path=str(path), reason=reason)

    def tokens_at(self, places: np.ndarray) -> np.ndarray:
        """Copy single tokens.

        Args:
            places: [N] i64, each from 0 to below total_tokens.

        Returns:
            [N] u32.
        """
        found = np.empty(len(places), dtype=np.uint32)
        which = np.searchsorted(self.starts, places, side="right") - 1
        for index in np.unique(which):
            here = which == index
            found[here] = self.shards[index][places[here] - int(self.starts[index])]
        return found

    def token_counts(self) -> np.ndarray:
        """How often each id occurs: [vocab_size] i64, for unigram entropy and distinct ids."""
        counts = np.zeros(self.manifest.vocab_size, dtype=np.int64)
        for shard in self.shards:
            for begin in range(0, len(shard), _BLOCK_BYTES):
                block = shard[begin : begin + _BLOCK_BYTES].astype(np.int64)
                counts += np.bincount(block, minlength=len(counts))
        return counts


def open_dataset(folder: Path, check: Check = "full") -> TokenDataset:
    """Open a dataset folder, refusing it unless it is what its manifest says.

    Args:
        folder: a folder that `apr.data.encode.encode_corpus` wrote.
        check: `structure` compares names and sizes; `full` also hashes every shard and looks at every id, in
            threads, at about the speed of the disk.

    Raises:
        ManifestMissing, DatasetUnfinished, BadJson, CannotRead, ManifestFieldMissing, ManifestFieldUnknown,
        ManifestValueBad: the manifest is missing, in progress or wrong.
        ShardMissing, ShardUnexpected, ShardNotWhole, ShardSizeChanged, DocumentsChanged: the folder is not
        what the manifest lists.
        ShardChanged, ShardIdTooLarge: with `full`, the bytes are not the manifest's, or hold a foreign id.
    """
    if check not in ("full", "structure"):
        raise BadOption(option="check", value=str(check), limit="full or structure")
    manifest = read_manifest(folder)
    stamps = tuple(
        file_stamp(folder / shard.name) for shard in manifest.shards
    )  # before, so that no change is missed
    _check_structure(folder, manifest)
    if check == "full":
        _check_contents(folder, manifest)
    return TokenDataset(
        folder=folder,
        manifest=manifest,
        shards=tuple(_mapped(folder / shard.name, "<u4") for shard in manifest.shards),
        starts=np.array([0, *accumulate(shard.num_tokens for shard in manifest.shards)], dtype=np.int64),
        document_starts=_mapped(folder / DOCUMENTS_NAME, "<u8"),
        stamps=stamps,
    )


def file_stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file does: its size, time, and place on the disk; empty where there is none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev


def _check_structure(folder: Path, manifest: Manifest) -> None:
    listed = {shard.name for shard in manifest.shards} | {DOCUMENTS_NAME}
    for path in sorted(folder.glob("*.bin")):
        if path.name not in listed:
            raise ShardUnexpected(path=str(path))
    for shard in manifest.shards:
        _check_size(folder / shard.name, shard)
    path = folder / DOCUMENTS_NAME
    size = path.stat().st_size if path.is_file() else None
    if size != manifest.total_documents * OFFSET_BYTES:
        reason = "it is missing" if size is None else f"{size} bytes for {manifest.total_documents} documents"
        raise DocumentsChanged(path=str(path), reason=reason)


def _check_size(path: Path, shard: ShardRecord) -> None:
    if not path.is_file():
        raise ShardMissing(path=str(path))
    size = path.stat().st_size
    if size % TOKEN_BYTES:
        raise ShardNotWhole(path=str(path), size_bytes=size, token_bytes=TOKEN_BYTES)
    if size != shard.num_tokens * TOKEN_BYTES:
        raise ShardSizeChanged(
            path=str(path), found_tokens=size // TOKEN_BYTES, manifest_tokens=shard.num_tokens
        )


def _check_contents(folder: Path, manifest: Manifest) -> None:
    path = folder / DOCUMENTS_NAME
    if (found := sha256_file(path)) != manifest.documents_sha256:
        raise DocumentsChanged(path=str(path), reason=f"sha256 {found}")
    # Hashing and the maximum both leave the interpreter's lock, so threads use every core.
    with ThreadPoolExecutor(max_workers=cpu_count()) as pool:
        checks = [
            pool.submit(_check_shard, folder / shard.name, shard, manifest.vocab_size)
            for shard in manifest.shards
        ]
        try:
            for check in checks:
                check.result()  # in order, so that the first bad shard is the one named
        finally:
            pool.shutdown(cancel_futures=True)


def _check_shard(path: Path, shard: ShardRecord, vocab_size: int) -> None:
    digest = hashlib.sha256()
    outside: tuple[int, int] | None = None  # position, id
    position = 0
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
                ids = np.frombuffer(block, dtype=_TOKEN)
                if outside is None and int(ids.max()) >= vocab_size:
                    first = int(np.argmax(ids >= vocab_size))
                    outside = position + first, int(ids[first])
                position += len(ids)
    except OSError as error:
        raise CannotRead(path=str(path), reason=error.strerror or str(error)) from error
    # Changed bytes come first: they explain a foreign id, not the other way round.
    if (found := digest.hexdigest()) != shard.sha256:
        raise ShardChanged(path=str(path), found=found, manifest=shard.sha256)
    if outside is not None:
        raise ShardIdTooLarge(path=str(path), position=outside[0], token_id=outside[1], vocab_size=vocab_size)


def _mapped(path: Path, kind: str) -> np.ndarray:
    try:
        return np.memmap(path, dtype=kind, mode="r")
    except OSError as error:
        raise CannotRead(path=str(path), reason=error.strerror or str(error)) from error
