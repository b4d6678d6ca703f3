"""Documents of a corpus, byte for byte, one after the other, from any place on.

Files are read as bytes and decoded here: no newline is translated, no byte-order mark removed, no encoding
guessed. What is not clean text is an error that names its place, or is counted; nothing is dropped unseen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

from apr.base.errors import AprError, BadOption, NotYet
from apr.data.errors import DocumentTooLarge
from apr.data.parquet import parquet_rows
from apr.data.records import BAD_KINDS, OnBad, field_text, text_of
from apr.data.sources import CorpusFile, Source, checked_source, corpus_files
from apr.data.spans import PARQUET, RECORDS, FileSpan, Portion, file_spans
from apr.data.streams import ByteStream, open_stream

MAX_DOCUMENT_BYTES = 1 << 30  # tokenizers take some ten times a text's size in memory
_BLOCK_BYTES = 1 << 20
# Refused by name: read as text they would fail on some byte, which says less.
_UNREAD = (
    *(".arrow", ".feather", ".orc", ".avro", ".npy", ".npz"),
    *(".tar", ".tgz", ".zip", ".7z", ".rar", ".bz2", ".xz", ".lz4"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One text of the corpus; `origin` is its file, or file:line."""

    text: str
    origin: str
    source: int = 0  # index of its source
    repeat: int = 0  # how often its source was read before


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where reading stands: behind so many records, which end at `offset`, of a span."""

    span: int = 0
    record: int = 0  # counted from the start of the file; 0 when nothing of the span was read
    offset: int = 0  # in the content of the file, decompressed


@dataclass(slots=True, kw_only=True)
class ReadCounts:
    """What a reader has met so far; a file that is read again counts once."""

    num_files: int = 0
    num_documents: int = 0
    num_empty: int = 0  # documents without a character, and blank lines of JSONL; they are left out
    bad: dict[str, int] = field(default_factory=lambda: dict.fromkeys(BAD_KINDS, 0))
    bytes_done: int = 0  # as stored on disk

    @property
    def num_skipped(self) -> int:
        """Bad files and records left out because `on_bad` is skip."""
        return sum(self.bad.values())

    def to_dict(self) -> dict[str, Any]:
        """The counts as JSON values."""
        return asdict(self)


class CorpusReader:
    """An iterable over the documents of a corpus; iterating again reads again and counts anew.

    While it waits after a document, `place` and `counts` are those right behind that document.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        files: Sequence[CorpusFile],
        spans: Sequence[FileSpan],
        *,
        content_field: str,
        on_bad: OnBad,
    ) -> None:
        self.sources = tuple(sources)
        self.files = tuple(files)
        self.spans = tuple(spans)
        self._content_field = content_field
        self._on_bad = on_bad
        self._begins = [0, *accumulate(span.num_bytes for span in self.spans)]
        self.bytes_total = self._begins[-1]
        self.counts = ReadCounts()
        self.place = Place()

    def __iter__(self) -> Iterator[Document]:
        """Read the documents."""
        return self.read_from(Place(), ReadCounts())

    def read_from(self, place: Place, counts: ReadCounts) -> Iterator[Document]:
        """Read the documents behind a place, counting on."""
        self.counts, self.place = counts, place
        for index in range(place.span, len(self.spans)):
            at = place if index == place.span else Place(span=index)
            span = self.spans[index]
            self.counts.num_files += not (at.record or span.start or span.repeat)
            for document in self._span_documents(span, at):
                if not document.text:
                    self._add_empty(span)
                    continue
                self.counts.num_documents += not span.repeat
                yield document
            self.counts.bytes_done = self._begins[index + 1]

    def _span_documents(self, span: FileSpan, at: Place) -> Iterator[Document]:
        path, suffix = span.file.path, span.file.content_suffix
        if suffix in _UNREAD or (suffix == PARQUET and span.file.is_compressed):
            # A path that was named is meant; only a folder's by-catch may be skipped.
            error = NotYet(option=f"reading {path} ({suffix})")
            self._bad("format_unread", error, span, is_fatal=span.file.is_named)
        elif suffix == PARQUET:
            yield from self._rows(span, at)
        elif suffix in RECORDS:
            with open_stream(path) as stream:
                yield from self._records(span, stream, at)
        elif not at.record:
            with open_stream(path) as stream:
                content = _read_whole(stream.content, str(path))
            yield from self._document(span, replace(at, record=1, offset=len(content)), content, str(path))

    def _records(self, span: FileSpan, stream: ByteStream, at: Place) -> Iterator[Document]:
        at = _first_record(span, stream, at)
        while span.stop is None or at.offset < span.stop:
            origin = f"{span.file.path}:{at.record + 1}"
            if not (content := _read_line(stream.content, origin)):
                break
            begin = at.offset
            at = replace(at, record=at.record + 1, offset=begin + len(content))
            done = self._begins[at.span] + stream.stored_bytes_read - span.start
            self.counts.bytes_done = min(done, self._begins[at.span + 1])
            if not content.strip():
                self._add_empty(span)
            else:
                yield from self._document(span, at, content, origin, begin)

    def _rows(self, span: FileSpan, at: Place) -> Iterator[Document]:
        for row in parquet_rows(span.file.path, self._content_field, span.start, span.stop, at.record):
            self.counts.bytes_done = self._begins[at.span] + row.offset - span.start
            at = replace(at, record=row.number)
            if isinstance(row.found, tuple):
                self._bad(*row.found, span)
            else:
                _require_bounded(len(row.found), row.origin)
                yield from self._document(span, at, row.found, row.origin)

    def _document(
        self, span: FileSpan, at: Place, content: bytes, origin: str, begin: int = 0
    ) -> Iterator[Document]:
        found = text_of(content, origin, begin)
        if isinstance(found, str) and span.file.content_suffix in RECORDS:
            found = field_text(found, self._content_field, str(span.file.path), at.record)
        if isinstance(found, tuple):
            self._bad(*found, span)
        else:
            self.place = at
            yield Document(text=found, origin=origin, source=span.file.source, repeat=span.repeat)

    def _add_empty(self, span: FileSpan) -> None:
        self.counts.num_empty += not span.repeat

    def _bad(self, kind: str, error: AprError, span: FileSpan, is_fatal: bool = False) -> None:
        if is_fatal or self._on_bad == "fail":
            raise error
        self.counts.bad[kind] += not span.repeat


def read_corpus(
    sources: Sequence[Path | Source],
    *,
    glob: str = "**/*",
    content_field: str = "content",
    on_bad: OnBad = "fail",
    portion: Portion | None = None,
) -> CorpusReader:
    """Open a corpus: folders, text files (one document a file), JSONL (one a line), plain, .gz or .zst, and
    parquet (one a row).

    Args:
        sources: files and folders, read in the order given; a folder's files in the order of their relative
            paths. Linked folders inside a folder are not entered. A source with a weight above 1 is read again
            before the next one begins.
        glob: which files of a folder are read; a file that is named itself is always read.
        content_field: the field of a JSONL record, or the parquet column, that holds the text.
        on_bad: `fail` stops at the first bad file or record, `skip` leaves it out and counts it.
        portion: read only this part, see `apr.data.spans`.

    Returns:
        An iterable of `Document`, read in memory bounded by one document, with `counts` and `bytes_total`.

    Raises:
        CorpusMissing, GlobMatchesNothing, BadOption, CannotRead: at once.
        TextNotUtf8, RecordNotJson, RecordFieldMissing, RecordFieldNotText, NotYet: while reading, unless
        skipped.
        CompressedFileBroken, DocumentTooLarge, CannotRead: while reading, always.
    """
    if on_bad not in ("fail", "skip"):
        raise BadOption(option="--on-bad", value=str(on_bad), limit="fail or skip")
    checked = [checked_source(source) for source in sources]
    files = corpus_files(checked, glob)
    spans = file_spans(checked, files, portion)
    return CorpusReader(checked, files, spans, content_field=content_field, on_bad=on_bad)


def _first_record(span: FileSpan, stream: ByteStream, at: Place) -> Place:
    """Bring the stream to the next record to read."""
    if at.record:
        stream.skip(at.offset)
        return at
    if not span.start:
        return at
    # A record that begins before the span is another machine's, also where it ends in this one.
    lines = stream.skip(span.start - 1)
    rest = _read_line(stream.content, f"{span.file.path}:{lines + 1}")
    return replace(at, record=lines + 1, offset=span.start - 1 + len(rest))


def _read_whole(stream: BinaryIO, place: str) -> bytes:
    # Block by block: read(limit) would allocate the limit for every file.
    content = bytearray()
    while block := stream.read(_BLOCK_BYTES):
        content += block
        _require_bounded(len(content), place)
    return bytes(content)


def _read_line(stream: BinaryIO, place: str) -> bytes:
    content = stream.readline(MAX_DOCUMENT_BYTES + 1)
    _require_bounded(len(content), place)
    return content


def _require_bounded(num_bytes: int, place: str) -> None:
    if num_bytes > MAX_DOCUMENT_BYTES:
        raise DocumentTooLarge(place=place, limit_bytes=MAX_DOCUMENT_BYTES)
