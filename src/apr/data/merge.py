"""Parts of a corpus, encoded on several machines, to the dataset that one machine would have written.

The parts' documents are added in the order of the corpus by what adds them while encoding, so separators and shard
borders come out where one run has them.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from apr.base.errors import BadOption, CannotRead, CannotWrite, Interrupted
from apr.base.files import sha256_file
from apr.data.assembly import VALIDATION_FOLDER, Assembly
from apr.data.audit import require_known
from apr.data.corpus import ReadCounts
from apr.data.encode import EncodeResult
from apr.data.encode_options import PART_FIELD, TIMES_FIELD
from apr.data.errors import PartChanged, PartForeign, PartMissing, PartTwice
from apr.data.facts import complete_facts, require_both_sides, require_text
from apr.data.journal import only_encoder
from apr.data.ledger import Entry, ledger_rows
from apr.data.manifest import ShardRecord
from apr.data.part import PartState
from apr.data.part_record import PartRecord, read_part
from apr.data.writer import LEDGER_NAME, TOKEN_BYTES, discard_unfinished, remove_state, require_free

_NOT_COMPARED = (PART_FIELD, TIMES_FIELD)
Found = tuple[Path, PartRecord]


def merge_parts(
    folders: Sequence[Path],
    out: Path,
    *,
    force: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> EncodeResult:
    """Make of all parts of a corpus exactly the dataset that one run gives, apart from the seconds it took.

    Args:
        folders: of all parts, in any order; they are left as they are.
        out: must be new, empty or an unfinished dataset.
        force: replace whatever dataset `out` holds.
        on_progress: called after every block of documents with the documents done, and how many there are.

    Raises:
        NotAPart, PartForeign, PartTwice, PartMissing, BadOption, OutputExists, EncodingRuns: before `out` is touched.
        PartChanged, CorpusEmpty, SplitEmpty, UnknownTokens, CannotRead, CannotWrite, Interrupted: nothing of the
        dataset is left.
    """
    started_s = time.monotonic()
    parts = _all_parts(folders)
    _require_apart(out, folders)
    require_free(out, force=force)
    with only_encoder(out):
        try:
            result = _merged(parts, out, started_s, on_progress)
        except BaseException as error:
            with suppress(CannotWrite):
                discard_unfinished(out, out / VALIDATION_FOLDER)
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted(signal="Ctrl-C", kept="the parts are as they were; run it again") from error
            raise
        remove_state(out)
    return result


def _all_parts(folders: Sequence[Path]) -> list[Found]:
    """The parts in the order of the corpus, once it is sure that they are all of one."""
    parts = [(folder, read_part(folder)) for folder in folders]
    first, expected = parts[0]
    seen: dict[int, Path] = {}
    for folder, record in parts:
        _require_akin(folder, record, first, expected)
        if (other := seen.get(record.index)) is not None:
            raise PartTwice(first=str(other), second=str(folder), index=record.index, count=record.count)
        seen[record.index] = folder
    missing = [str(index) for index in range(1, expected.count + 1) if index not in seen]
    if missing:
        raise PartMissing(missing=", ".join(missing), count=expected.count)
    return sorted(parts, key=lambda part: part[1].index)


def _require_akin(folder: Path, record: PartRecord, first: Path, expected: PartRecord) -> None:
    compared: list[tuple[str, Any, Any]] = [("number of parts", record.count, expected.count)]
    compared += [
        (field, record.plan.get(field), expected.plan.get(field))
        for field in sorted({*record.plan, *expected.plan})
        if field not in _NOT_COMPARED
    ]
    for field, found, wanted in compared:
        if found != wanted:
            raise PartForeign(
                folder=str(folder), first=str(first), field=field, found=str(found), expected=str(wanted)
            )


def _require_apart(out: Path, folders: Sequence[Path]) -> None:
    target = Path(os.path.realpath(out))
    for folder in folders:
        part = Path(os.path.realpath(folder))
        if target.is_relative_to(part) or part.is_relative_to(target):
            raise BadOption(option="--output", value=str(out), limit=f"apart from the part {folder}")


def _merged(
    parts: Sequence[Found], out: Path, started_s: float, on_progress: Callable[[int, int], None] | None
) -> EncodeResult:
    record = parts[0][1]
    counts, audit = _summed([part for _, part in parts])
    total = sum(part.assembly.num_rows for _, part in parts)
    done = 0
    with Assembly(out, record.layout) as assembly:
        for folder, part in parts:
            for num_documents in _add_part(assembly, folder, part):
                done += num_documents
                if on_progress is not None:
                    on_progress(done, total)
        require_text(counts, audit["num_tokens"])
        require_known(audit["num_unknown"], audit["num_tokens"])
        require_both_sides(record.split.fraction, assembly.sides)
        elapsed_s = sum(part.elapsed_s for _, part in parts) + time.monotonic() - started_s
        facts = complete_facts(counts, elapsed_s=elapsed_s)
        train, validation = assembly.seal(record.split, **record.facts, **facts)
    return EncodeResult(
        train=train,
        validation=validation,
        counts=counts,
        num_round_trips=audit["num_round_trips"],
        num_unknown=audit["num_unknown"] if record.has_unknown else None,
        elapsed_s=elapsed_s,
    )


def _summed(parts: Sequence[PartRecord]) -> tuple[ReadCounts, dict[str, int]]:
    counts = ReadCounts()
    for part in parts:
        counts.num_files += part.counts.num_files
        counts.num_documents += part.counts.num_documents
        counts.num_empty += part.counts.num_empty
        counts.bytes_done += part.counts.bytes_done
        for kind, number in part.counts.bad.items():
            counts.bad[kind] += number
    return counts, {name: sum(part.audit[name] for part in parts) for name in parts[0].audit}


def _add_part(assembly: Assembly, folder: Path, part: PartRecord) -> Iterator[int]:
    """Add a part's documents; yields the number of each block of them."""
    ledger = folder / LEDGER_NAME
    if (found := sha256_file(ledger)) != part.ledger_sha256:
        raise PartChanged(path=str(ledger), found=found, recorded=part.ledger_sha256)
    with ExitStack() as stack:
        sides = [stack.enter_context(_Tokens(folder, part.assembly.train))]
        if part.assembly.validation is not None:
            sides.append(stack.enter_context(_Tokens(folder / VALIDATION_FOLDER, part.assembly.validation)))
        for rows in ledger_rows(ledger):
            for row in rows:
                entry = Entry.from_row(row)
                assembly.add(entry, sides[entry.is_validation].take(entry.num_tokens))
            yield len(rows)


class _Tokens:
    """The tokens of one side of a part, from the first to the last; a context that closes the shard it reads.

    Raises:
        CannotRead: from `take`, when the operating system refuses.
        PartChanged: from `take`, at the end of a shard whose bytes are not those that were written.
    """

    def __init__(self, folder: Path, state: PartState) -> None:
        self._folder = folder
        self._shards = iter(state.writer.shards)
        self._stream: BinaryIO | None = None
        self._left_bytes = 0

    def __enter__(self) -> _Tokens:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()

    def take(self, num_tokens: int) -> np.ndarray:
        """The next tokens: [num_tokens] u32."""
        pieces, needed = [], num_tokens * TOKEN_BYTES
        while needed:
            content = self._read(needed)
            pieces.append(content)
            needed -= len(content)
        return np.frombuffer(b"".join(pieces), dtype="<u4")

    def _read(self, limit: int) -> bytes:
        if not self._left_bytes:
            self._open(next(self._shards))
        assert self._stream is not None
        try:
            content = self._stream.read(min(limit, self._left_bytes))
        except OSError as error:
            raise CannotRead(path=self._stream.name, reason=error.strerror or str(error)) from error
        self._digest.update(content)
        self._left_bytes -= len(content)
        if not content or not self._left_bytes:
            self._judge()
        return content

    def _open(self, shard: ShardRecord) -> None:
        if self._stream is not None:
            self._stream.close()
        path = self._folder / shard.name
        try:
            self._stream = path.open("rb")
        except OSError as error:
            raise CannotRead(path=str(path), reason=error.strerror or str(error)) from error
        self._digest, self._sha256 = hashlib.sha256(), shard.sha256
        self._left_bytes = shard.num_tokens * TOKEN_BYTES

    def _judge(self) -> None:
        assert self._stream is not None
        if (found := self._digest.hexdigest()) != self._sha256:
            raise PartChanged(path=self._stream.name, found=found, recorded=self._sha256)
