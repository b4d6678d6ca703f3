"""Text to token shards: read, split, encode, check, write; and go on where an encoder was stopped."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from apr.base.errors import CannotWrite, Interrupted
from apr.data.ahead import encoded_ahead
from apr.data.apart import require_apart
from apr.data.assembly import VALIDATION_FOLDER, Assembly
from apr.data.audit import EncodingAudit
from apr.data.corpus import Place, ReadCounts, read_corpus
from apr.data.dedup import Deduplicator, DedupState, dedup_record
from apr.data.encode_options import EncodeOptions, check_options, layout_of, manifest_facts, plan_of
from apr.data.errors import DedupInParts, EncodingStateBroken
from apr.data.facts import complete_facts, require_both_sides, require_text
from apr.data.journal import Journal, only_encoder, read_journal, require_same_plan, write_journal
from apr.data.ledger import Entry
from apr.data.manifest import COMPLETE, PART, Manifest, read_manifest
from apr.data.part_record import PartRecord, read_part, write_part
from apr.data.selection import Chosen, chosen_documents
from apr.data.sources import Source
from apr.data.spans import Portion
from apr.data.writer import discard_unfinished, remove_state, require_free, status_of
from apr.tokenizer.engine import Ids, Tokenizer

_BATCH_DOCUMENTS = 1024
_BATCH_CHARACTERS = 4 << 20  # bounds memory: ids take some ten times their text as Python integers
_AHEAD_CHARACTERS = 4 * _BATCH_CHARACTERS  # three usual batches; a document of many megabytes is alone
_JOURNAL_EVERY_S = 10.0  # what a kill can cost; a journal takes some hundredths of a second

Stand = tuple[Place, ReadCounts, DedupState | None]  # behind a batch
OnProgress = Callable[[int, int | None, int], None]  # bytes done, bytes in all if known, tokens so far


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeResult:
    """What was written, and what was left out."""

    train: Manifest
    validation: Manifest | None  # None when val_fraction is 0
    counts: ReadCounts
    num_round_trips: int  # documents that were decoded back and compared
    num_unknown: int | None  # unknown tokens; None when the tokenizer has no unknown token
    elapsed_s: float  # in all sittings
    num_tokens_before: int = 0  # that an encoder which was stopped had left

    @property
    def unknown_fraction(self) -> float | None:
        """Share of unknown tokens; None when the tokenizer has no unknown token."""
        parts = [self.train, *([self.validation] if self.validation else [])]
        return (
            None if self.num_unknown is None else self.num_unknown / sum(part.total_tokens for part in parts)
        )


def encode_corpus(
    sources: Sequence[Path | Source],
    tokenizer: Tokenizer,
    out: Path,
    *,
    options: EncodeOptions,
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> EncodeResult:
    """Encode a corpus into the dataset folder `out`, its held-out documents into `out/val`.

    Both folders say "in progress" until everything is written. On an error what was written is removed. After a kill
    or Ctrl-C they keep saying so, every reader refuses them, and the next call with the same arguments goes on where
    it stopped; the bytes are those of one undisturbed run, apart from the seconds it took.

    Args:
        sources: folders and files, see `apr.data.corpus.read_corpus`.
        tokenizer: encodes a batch of documents at once, on all cores.
        out: must be new, empty or an unfinished dataset.
        options: how.
        force: replace whatever dataset `out` holds, an unfinished one too.
        on_progress: called after every batch.

    Raises:
        BadOption, EndOfTextMissing, OutputExists, CorpusMissing, GlobMatchesNothing, EncodingDiffers, EncodingRuns,
        EncodingStateBroken: before anything in `out` is changed.
        CorpusEmpty, SplitEmpty, RoundTripBroken, UnknownTokens, TokenIdTooLarge, CannotWrite, and what reading the
        corpus raises: nothing of the dataset is left.
        Interrupted: what is in the journal is left, if there is one.
    """
    with _little_to_collect():
        encoding = _Encoding(sources, tokenizer, out, options, None)
        encoding.run(force=force, on_progress=on_progress)
    return encoding.result()


def encode_part(
    sources: Sequence[Path | Source],
    tokenizer: Tokenizer,
    out: Path,
    *,
    options: EncodeOptions,
    portion: Portion,
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> PartRecord:
    """Encode one part of a corpus into `out`, for `apr.data.merge.merge_parts`; otherwise as `encode_corpus`.

    A part may be empty, and has no separators: where they go depends on its neighbours.

    Args:
        portion: which part.
    """
    with _little_to_collect():
        _Encoding(sources, tokenizer, out, options, portion).run(force=force, on_progress=on_progress)
    return read_part(out)


class _Encoding:
    """One call of `encode_corpus` or `encode_part`: what its batches share."""

    def __init__(
        self,
        sources: Sequence[Path | Source],
        tokenizer: Tokenizer,
        out: Path,
        options: EncodeOptions,
        portion: Portion | None,
    ) -> None:
        check_options(options)
        if options.dedup != "none" and portion is not None:
            raise DedupInParts(part=str(portion))
        self._reader = read_corpus(
            sources,
            glob=options.glob,
            content_field=options.content_field,
            on_bad=options.on_bad,
            portion=portion,
        )
        self._layout = layout_of(options, tokenizer, self._reader)
        self._plan = plan_of(options, self._layout, self._reader, portion, tokenizer.engine)
        self._tokenizer, self._out, self._options, self._portion = tokenizer, out, options, portion
        self._audit = EncodingAudit(tokenizer)
        self._dedup: Deduplicator | None = None
        self._started_s = self._journaled_s = time.monotonic()
        self._tokens_before = 0
        require_apart(out, self._reader.files)

    def run(self, *, force: bool, on_progress: OnProgress | None) -> None:
        if not force and self._is_finished():
            return
        require_free(self._out, force=force)
        with only_encoder(self._out):
            journal = None if force else self._journal_found()
            try:
                self._encode(journal, on_progress)
            except KeyboardInterrupt as error:
                raise self._interrupted() from error
            except EncodingStateBroken:
                raise  # what is left may be of use to somebody, and only --force removes it
            except BaseException:
                self._discard()
                raise

    def result(self) -> EncodeResult:
        validation = read_manifest(self._out / VALIDATION_FOLDER) if self._layout.has_validation else None
        return EncodeResult(
            train=read_manifest(self._out),
            validation=validation,
            counts=self._reader.counts,
            num_round_trips=self._audit.num_round_trips,
            num_unknown=None if self._tokenizer.unknown_id is None else self._audit.num_unknown,
            elapsed_s=self._elapsed_s,
            num_tokens_before=self._tokens_before,
        )

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started_s

    def _is_finished(self) -> bool:
        """Whether an encoder of the same was stopped behind its last step, but for clearing up."""
        if status_of(self._out) not in (COMPLETE, PART):
            return False
        journal = read_journal(self._out)
        is_same = journal is not None and journal.plan == self._plan
        if journal is not None and is_same:
            self._take_up(journal)
        if is_same or journal is None:
            remove_state(self._out)
        return is_same

    def _journal_found(self) -> Journal | None:
        journal = read_journal(self._out)
        if journal is not None:
            require_same_plan(self._out, journal.plan, self._plan)
        return journal

    def _encode(self, journal: Journal | None, on_progress: OnProgress | None) -> None:
        place, counts = Place(), ReadCounts()
        if journal is not None:
            self._take_up(journal)
            place, counts = journal.place, journal.counts
        # A part has no separators, see `encode_part`.
        layout = (
            replace(self._layout, eos_policy="none", eos_token_id=None) if self._portion else self._layout
        )
        with ExitStack() as stack:
            gc.freeze()  # the list of the files too
            assembly = stack.enter_context(Assembly(self._out, layout, journal.assembly if journal else None))
            if self._options.dedup != "none":
                state = journal.dedup if journal else None
                self._dedup = Deduplicator(
                    self._out, len(self._layout.sources), threshold=self._options.near_threshold, state=state
                )
                stack.callback(self._dedup.abandon)
            batches = encoded_ahead(
                self._batches(place, counts), self._encoded, self._stand, size=_size, most=_AHEAD_CHARACTERS
            )
            for batch, encoded, stand in batches:
                self._add_batch(batch, encoded, assembly)
                if time.monotonic() - self._journaled_s >= _JOURNAL_EVERY_S:
                    self._write_journal(assembly, stand)
                if on_progress is not None:
                    on_progress(stand[1].bytes_done, self._reader.bytes_total, self._audit.num_tokens)
            self._write_journal(assembly, self._stand())
            self._finish(assembly)
        remove_state(self._out)

    def _batches(self, place: Place, counts: ReadCounts) -> Iterator[list[Chosen]]:
        chosen = chosen_documents(
            self._reader.read_from(place, counts),
            self._reader.sources,
            seed=self._options.seed,
            val_fraction=self._options.val_fraction,
        )
        # Whole batches, so that the reader and what is known of copies stand behind the same document.
        return (batch if self._dedup is None else self._dedup.kept(batch) for batch in _batches(chosen))

    def _stand(self) -> Stand:
        counts = self._reader.counts
        dedup = None if self._dedup is None else self._dedup.state
        return self._reader.place, replace(counts, bad=dict(counts.bad)), dedup

    def _encoded(self, batch: list[Chosen]) -> Sequence[Ids]:
        if not batch:
            return []  # all of it were copies
        return self._tokenizer.encode_batch([chosen.document.text for chosen in batch])

    def _add_batch(self, batch: list[Chosen], encoded: Sequence[Ids], assembly: Assembly) -> None:
        for chosen, ids in zip(batch, encoded, strict=True):
            checked = self._audit.check(chosen.document, ids)
            entry = Entry(
                sha256=chosen.sha256,
                num_bytes=chosen.num_bytes,
                num_tokens=len(checked),
                source=chosen.document.source,
                repeat=chosen.document.repeat,
                is_validation=chosen.is_validation,
            )
            assembly.add(entry, checked)

    def _finish(self, assembly: Assembly) -> None:
        if self._portion is not None:
            self._finish_part(assembly, self._portion)
            return
        require_text(self._reader.counts, self._audit.num_tokens)
        self._audit.finish()
        require_both_sides(self._options.val_fraction, assembly.sides)
        facts = dict(manifest_facts(self._options, self._tokenizer))
        if self._dedup is not None:
            facts["dedup"] = dedup_record(self._dedup.seal(), [name for name, _ in self._layout.sources])
        assembly.seal(
            self._options.split, **facts, **complete_facts(self._reader.counts, elapsed_s=self._elapsed_s)
        )

    def _finish_part(self, assembly: Assembly, portion: Portion) -> None:
        ledger_sha256 = assembly.seal_files()
        record = PartRecord(
            index=portion.index,
            count=portion.count,
            plan=self._plan,
            layout=self._layout,
            split=self._options.split,
            facts=manifest_facts(self._options, self._tokenizer),
            counts=self._reader.counts,
            audit=self._audit.counters,
            has_unknown=self._tokenizer.unknown_id is not None,
            assembly=assembly.state,
            ledger_sha256=ledger_sha256,
            elapsed_s=round(self._elapsed_s, 3),
        )
        write_part(self._out, record)

    def _take_up(self, journal: Journal) -> None:
        self._audit.take_up(journal.audit)
        self._reader.counts = journal.counts
        self._started_s -= journal.elapsed_s
        self._tokens_before = self._audit.num_tokens

    def _write_journal(self, assembly: Assembly, stand: Stand) -> None:
        place, counts, dedup = stand
        if self._dedup is not None:
            self._dedup.sync()  # it may be a batch ahead; what stands behind its state is cut off
        journal = Journal(
            plan=self._plan,
            place=place,
            counts=counts,
            audit=self._audit.counters,
            assembly=assembly.sync(),
            elapsed_s=self._elapsed_s,
            dedup=dedup,
        )
        write_journal(self._out, journal)
        self._journaled_s = time.monotonic()

    def _interrupted(self) -> Interrupted:
        if self._is_journaled():
            return Interrupted(
                signal="Ctrl-C", kept="the shards so far are kept; run the same command again to go on"
            )
        self._discard()
        return Interrupted(signal="Ctrl-C", kept="no shard was kept; run it again")

    def _is_journaled(self) -> bool:
        with suppress(Exception):  # a broken one is as good as none: it cannot be gone on from
            return read_journal(self._out) is not None
        return False

    def _discard(self) -> None:
        with suppress(CannotWrite):  # marked in progress is as good, and the error itself must be heard
            discard_unfinished(self._out, self._out / VALIDATION_FOLDER)


@contextmanager
def _little_to_collect() -> Iterator[None]:
    """Keep the collector from what is there: a vocabulary and a list of files are large, and hold no cycles."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _size(batch: Sequence[Chosen]) -> int:
    return sum(len(chosen.document.text) for chosen in batch)


def _batches(documents: Iterable[Chosen]) -> Iterator[list[Chosen]]:
    """Documents in handfuls; at the end of each the reader stands right behind its last document."""
    batch: list[Chosen] = []
    characters = 0
    for chosen in documents:
        batch.append(chosen)
        characters += len(chosen.document.text)
        if len(batch) >= _BATCH_DOCUMENTS or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
