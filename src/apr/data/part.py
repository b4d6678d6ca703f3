"""One side of the split while it is written: separators, counts, and its manifest at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from apr.data.manifest import Manifest, write_in_progress
from apr.data.writer import DatasetWriter, WriterState, claim_folder, seal_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class PartState:
    """How far one side had got when it was last synced."""

    writer: WriterState = field(default_factory=WriterState)
    total_bytes: int = 0
    max_token_id: int = 0


class Part:
    """A claimed dataset folder that takes documents; a context that closes its files.

    Args:
        folder: where; what an earlier dataset left there is removed.
        shard_tokens: tokens in every shard but the last.
        tokenizer_sha256: for the claim.
        eos_policy: where the separator goes, `after`, `between` or `none`.
        eos_token_id: the separator; None when the policy is none.
        state: where to go on; None begins anew.

    Raises:
        CannotWrite: from every method, when the operating system refuses.
    """

    def __init__(
        self,
        folder: Path,
        *,
        shard_tokens: int,
        tokenizer_sha256: str,
        eos_policy: str,
        eos_token_id: int | None,
        state: PartState | None = None,
    ) -> None:
        if state is None:
            claim_folder(folder, tokenizer_sha256)
        else:
            write_in_progress(
                folder, tokenizer_sha256
            )  # its encoder may have been stopped behind the last step
        state = state or PartState()
        self.folder = folder
        self._writer = DatasetWriter(folder, shard_tokens, state.writer)
        self._eos_policy = eos_policy
        self._separator = np.array([] if eos_token_id is None else [eos_token_id], dtype=np.uint32)
        self._total_bytes = state.total_bytes
        self._max_token_id = state.max_token_id

    def __enter__(self) -> Part:
        """Nothing is opened here that was not before."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files; unless sealed, the folder stays in progress."""
        self._writer.abandon()

    @property
    def num_documents(self) -> int:
        """Documents so far."""
        return self._writer.total_documents

    @property
    def num_tokens(self) -> int:
        """Tokens so far, separators included."""
        return self._writer.total_tokens

    @property
    def state(self) -> PartState:
        """How far it has got; `sync` makes it true of the disk."""
        return PartState(
            writer=self._writer.state, total_bytes=self._total_bytes, max_token_id=self._max_token_id
        )

    def sync(self) -> None:
        """Put what was added on the disk."""
        self._writer.sync()

    def add(self, ids: np.ndarray, num_bytes: int) -> None:
        """Append a document: its ids, [T] u32, and the UTF-8 bytes of its text."""
        if self._eos_policy == "between" and self.num_documents:
            self._append(self._separator)
        self._writer.start_document()
        self._append(ids)
        if self._eos_policy == "after":
            self._append(self._separator)
        self._total_bytes += num_bytes

    def seal_files(self) -> str:
        """Put everything on the disk and close; returns the sha256 of the document offsets."""
        return self._writer.seal()

    def seal(self, **facts: Any) -> Manifest:
        """Put everything on the disk and write the complete manifest.

        Args:
            facts: the fields of the manifest that are not counted here.
        """
        documents_sha256 = self.seal_files()
        shards = self._writer.state.shards
        manifest = Manifest(
            total_documents=self.num_documents,
            total_tokens=self.num_tokens,
            total_bytes=self._total_bytes,
            max_token_id=self._max_token_id,
            shard_count=len(shards),
            shards=shards,
            documents_sha256=documents_sha256,
            **facts,
        )
        seal_folder(self.folder, manifest)
        return manifest

    def _append(self, ids: np.ndarray) -> None:
        self._writer.append(ids)
        self._max_token_id = max(self._max_token_id, int(ids.max(initial=0)))
