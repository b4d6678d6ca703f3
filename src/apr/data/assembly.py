"""A dataset while it is put together, document by document: both sides of the split, and the ledger of both.

Encoding and merging add the same documents in the same order here, which is why they give the same bytes.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from apr.data.hashed_file import writing
from apr.data.ledger import Entry, LedgerWriter, corpus_digest, source_records
from apr.data.manifest import Manifest, SplitRecord
from apr.data.part import Part, PartState
from apr.data.writer import STATE_FOLDER, remove_dataset

VALIDATION_FOLDER = "val"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What has to be known of a dataset before its first document."""

    shard_tokens: int
    tokenizer_sha256: str
    eos_policy: str
    eos_token_id: int | None
    has_validation: bool
    sources: tuple[tuple[str, float], ...]  # name, weight


@dataclass(frozen=True, slots=True, kw_only=True)
class AssemblyState:
    """How far a dataset had got when it was last synced."""

    num_rows: int
    train: PartState
    validation: PartState | None


class Assembly:
    """A claimed dataset folder that takes documents; a context that closes its files.

    Args:
        out: the folder; its held-out documents go to `out/val`, and the ledger lies in its state folder.
        layout: what all documents share.
        state: where to go on; None begins anew, and removes what an earlier dataset left.

    Raises:
        CannotWrite: from every method, when the operating system refuses.
        EncodingStateBroken: the folder does not hold what was synced.
    """

    def __init__(self, out: Path, layout: Layout, state: AssemblyState | None = None) -> None:
        self.layout = layout
        self._validation: Part | None = None
        with ExitStack() as stack:
            self._train = stack.enter_context(self._part(out, state.train if state else None))
            if layout.has_validation:
                held_out = self._part(out / VALIDATION_FOLDER, state.validation if state else None)
                self._validation = stack.enter_context(held_out)
            else:
                remove_dataset(out / VALIDATION_FOLDER)
            with writing(out):
                (out / STATE_FOLDER).mkdir(exist_ok=True)
            self._ledger = LedgerWriter(out / STATE_FOLDER, state.num_rows if state else 0)
            stack.callback(self._ledger.abandon)
            self._open = stack.pop_all()

    def __enter__(self) -> Assembly:
        """Nothing is opened here that was not before."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files; unless sealed, the folder stays in progress."""
        self._open.close()

    @property
    def sides(self) -> tuple[Part, ...]:
        """The training side, and the held-out one where there is one."""
        return (self._train,) if self._validation is None else (self._train, self._validation)

    @property
    def state(self) -> AssemblyState:
        """How far it has got; `sync` makes it true of the disk."""
        validation = None if self._validation is None else self._validation.state
        return AssemblyState(num_rows=self._ledger.num_rows, train=self._train.state, validation=validation)

    def sync(self) -> AssemblyState:
        """Put everything on the disk; returns the state that can be gone on from."""
        for part in self.sides:
            part.sync()
        self._ledger.sync()
        return self.state

    def add(self, entry: Entry, ids: np.ndarray) -> None:
        """Append a document with its ids, [T] u32, to its side."""
        side = self._validation if self._validation is not None and entry.is_validation else self._train
        side.add(ids, entry.num_bytes)
        self._ledger.add(entry)

    def seal(self, split: SplitRecord, **facts: Any) -> tuple[Manifest, Manifest | None]:
        """Put everything on the disk and write the manifests.

        Args:
            split: how it was split; its `part` is set here.
            facts: the fields that are not known here.
        """
        self._ledger.seal()
        facts["corpus_sha256"] = corpus_digest(self._ledger.path)
        # The training folder holds the other, so it is sealed last: complete there means complete.
        held_out = None
        if self._validation is not None:
            held_out = self._seal_side(self._validation, "validation", split, facts)
        return self._seal_side(self._train, "train", split, facts), held_out

    def seal_files(self) -> str:
        """Put everything on the disk without a manifest, for a part; returns the sha256 of the ledger."""
        for part in self.sides:
            part.seal_files()
        return self._ledger.seal()

    def _seal_side(self, part: Part, name: str, split: SplitRecord, facts: dict[str, Any]) -> Manifest:
        sources = source_records(self._ledger.path, self.layout.sources, is_validation=name == "validation")
        return part.seal(
            **facts,
            tokenizer_sha256=self.layout.tokenizer_sha256,
            eos_policy=self.layout.eos_policy,
            eos_token_id=self.layout.eos_token_id,
            sources=sources,
            split=SplitRecord(rule=split.rule, seed=split.seed, fraction=split.fraction, part=name),
        )

    def _part(self, folder: Path, state: PartState | None) -> Part:
        return Part(
            folder,
            shard_tokens=self.layout.shard_tokens,
            tokenizer_sha256=self.layout.tokenizer_sha256,
            eos_policy=self.layout.eos_policy,
            eos_token_id=self.layout.eos_token_id,
            state=state,
        )
