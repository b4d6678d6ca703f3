"""Documents of a corpus, byte for byte, one after the other.

Files are read as bytes and decoded here: no newline is translated, no byte-order mark removed, no encoding
guessed. What is not clean text is an error that names its place, or is counted; nothing is dropped unseen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from apr.base.errors import AprError, BadOption, NotYet
from apr.base.files import json_kind
from apr.data.errors import (
    DocumentTooLarge,
    RecordFieldMissing,
    RecordFieldNotText,
    RecordNotJson,
    TextNotUtf8,
)
from apr.data.sources import CorpusFile, corpus_files
from apr.data.streams import ByteStream, open_stream

OnBad = Literal["fail", "skip"]
BAD_KINDS = ("not_utf8", "not_json", "field_missing", "field_not_text", "format_unread")
MAX_DOCUMENT_BYTES = 1 << 30  # tokenizers take some ten times a text's size in memory
_BLOCK_BYTES = 1 << 20
_RECORDS = (".jsonl", ".ndjson")
# Refused by name: read as text they would fail on some byte, which says less.
_UNREAD = (
    *(".parquet", ".arrow", ".feather", ".orc", ".avro", ".npy", ".npz"),
    *(".tar", ".tgz", ".zip", ".7z", ".rar", ".bz2", ".xz", ".lz4"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One text of the corpus; `origin` is its file, or file:line."""

    text: str
    origin: str


@dataclass(slots=True, kw_only=True)
class ReadCounts:
    """What a reader has met so far."""

    num_files: int = 0
    num_documents: int = 0
    num_empty: int = 0  # documents without a character, and blank lines of JSONL; they are left out
    bad: dict[str, int] = field(default_factory=lambda: dict.fromkeys(BAD_KINDS, 0))
    bytes_done: int = 0  # as stored on disk

    @property
    def num_skipped(self) -> int:
        """Bad files and records left out because `on_bad` is skip."""
        return sum(self.bad.values())


class CorpusReader:
    """An iterable over the documents of a corpus; iterating again reads again and counts anew."""

    def __init__(self, files: Sequence[CorpusFile], *, content_field: str, on_bad: OnBad) -> None:
        self.files = files
        self._content_field = content_field
        self._on_bad = on_bad
        self.bytes_total = sum(file.size_bytes for file in files)
        self.counts = ReadCounts()

    def __iter__(self) -> Iterator[Document]:
        """Read the documents."""
        self.counts = ReadCounts()
        for file in self.files:
            self.counts.num_files += 1
            done = self.counts.bytes_done
            for document in self._file_documents(file, done):
                if not document.text:
                    self.counts.num_empty += 1
                    continue
                self.counts.num_documents += 1
                yield document
            self.counts.bytes_done = done + file.size_bytes

    def _file_documents(self, file: CorpusFile, bytes_before: int) -> Iterator[Document]:
        path, suffix = file.path, file.content_suffix
        if suffix in _UNREAD:
            # A path that was named is meant; only a folder's by-catch may be skipped.
            self._bad("format_unread", NotYet(option=f"reading {path} ({suffix})"), is_fatal=file.is_named)
            return
        with open_stream(path) as stream:
            if suffix in _RECORDS:
                yield from self._records(path, stream, bytes_before)
            else:
                yield from self._whole_text(path, stream)

    def _whole_text(self, path: Path, stream: ByteStream) -> Iterator[Document]:
        content = _read_whole(stream.content, str(path))
        text = self._decoded(content, str(path), 0)
        if text is not None:
            yield Document(text=text, origin=str(path))

    def _records(self, path: Path, stream: ByteStream, bytes_before: int) -> Iterator[Document]:
        line = offset = 0
        while content := _read_line(stream.content, f"{path}:{line + 1}"):
            line += 1
            origin = f"{path}:{line}"
            if not content.strip():
                self.counts.num_empty += 1
            elif (text := self._decoded(content, origin, offset)) is not None:
                text = self._field_text(text, path, line)
                if text is not None:
                    yield Document(text=text, origin=origin)
            offset += len(content)
            self.counts.bytes_done = bytes_before + stream.stored_bytes_read

    def _decoded(self, content: bytes, place: str, offset: int) -> str | None:
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            where = offset + error.start
            self._bad("not_utf8", TextNotUtf8(place=place, byte_offset=where, reason=error.reason))
            return None

    def _field_text(self, content: str, path: Path, line: int) -> str | None:
        name = self._content_field
        try:
            record = json.loads(content)
        except (ValueError, RecursionError) as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            self._bad("not_json", RecordNotJson(path=str(path), line=line, reason=reason))
            return None
        if not isinstance(record, dict):
            reason = f"it holds {_kind(record)}"
            self._bad("not_json", RecordNotJson(path=str(path), line=line, reason=reason))
            return None
        if name not in record:
            found = ", ".join(sorted(record)) or "nothing"
            self._bad("field_missing", RecordFieldMissing(path=str(path), line=line, field=name, found=found))
            return None
        text = record[name]
        if not isinstance(text, str) or not _is_encodable(text):
            kind = _kind(text)
            self._bad("field_not_text", RecordFieldNotText(path=str(path), line=line, field=name, kind=kind))
            return None
        return text

    def _bad(self, kind: str, error: AprError, is_fatal: bool = False) -> None:
        if is_fatal or self._on_bad == "fail":
            raise error
        self.counts.bad[kind] += 1


class CorpusDigest:
    """sha256 over the documents in order, each as its length (little-endian u64) and its UTF-8 bytes.

    It depends on the texts and their order only, not on files, paths or compression.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, text: str) -> int:
        """Add a document; returns the number of its UTF-8 bytes."""
        content = text.encode()
        self._digest.update(len(content).to_bytes(8, "little"))
        self._digest.update(content)
        return len(content)

    def hexdigest(self) -> str:
        """The digest so far, 64 hexadecimal digits."""
        return self._digest.hexdigest()


def read_corpus(
    paths: Sequence[Path], *, glob: str = "**/*", content_field: str = "content", on_bad: OnBad = "fail"
) -> CorpusReader:
    """Open a corpus: folders, text files (one document a file) and JSONL (one a line), plain, .gz or .zst.

    Args:
        paths: files and folders, read in the order given; a folder's files in the order of their relative
            paths. Linked folders inside a folder are not entered.
        glob: which files of a folder are read; a file that is named itself is always read.
        content_field: the field of a JSONL record that holds the text.
        on_bad: `fail` stops at the first bad file or record, `skip` leaves it out and counts it.

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
    files = corpus_files(paths, glob)
    return CorpusReader(files, content_field=content_field, on_bad=on_bad)


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


def _is_encodable(text: str) -> bool:
    # JSON can spell half of a surrogate pair, which is no character and has no UTF-8.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: Any) -> str:
    return "half a surrogate pair" if isinstance(value, str) else json_kind(value)
