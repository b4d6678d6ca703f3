"""How a corpus is read: which stretch of which file, how often, and which part of it one machine takes.

All files in the order of reading, repeats included, are laid end to end as they are stored, and part i of n is the
i-th of n equal stretches of those bytes. A record belongs to the part in which its first byte lies, a row of a
parquet file to that in which its row group begins; a file that can only be read from its beginning (compressed, or
one text) belongs as a whole to the part in which it begins. So the parts follow from the names and sizes of the files
alone, no machine has to count documents that are another's, and the parts one after the other are the corpus, in its
own order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from apr.base.errors import BadOption
from apr.data.sources import CorpusFile, Source

RECORDS = (".jsonl", ".ndjson")
PARQUET = ".parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """Part `index` of `count`, counted from 1; 1 of 1 is the whole."""

    index: int = 1
    count: int = 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSpan:
    """The records of a file whose first byte, as stored, is from `start` to below `stop`."""

    file: CorpusFile
    start: int
    stop: int | None  # None: to the end of the file
    repeat: int  # 0 when the file is read for the first time

    @property
    def num_bytes(self) -> int:
        """Bytes to read, about."""
        return (self.file.size_bytes if self.stop is None else self.stop) - self.start


def parse_portion(text: str) -> Portion:
    """Read `i/n`.

    Raises:
        BadOption: it is not that, or not 1 <= i <= n.
    """
    index, _, count = text.partition("/")
    if index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count):
        return Portion(index=int(index), count=int(count))
    raise BadOption(option="--part", value=text, limit="i/n with i from 1 to n, such as 2/8")


def file_spans(
    sources: Sequence[Source], files: Sequence[CorpusFile], portion: Portion | None = None
) -> list[FileSpan]:
    """What one machine reads, in order.

    Args:
        sources: say how often each is read.
        files: as `corpus_files` lists them.
        portion: which part; None for everything.
    """
    portion = portion or Portion()
    passes = [
        (file, repeat)
        for index, source in enumerate(sources)
        for repeat in range(source.num_repeats)
        for file in files
        if file.source == index
    ]
    total = sum(file.size_bytes for file, _ in passes)
    first = total * (portion.index - 1) // portion.count
    # Without an end for the last part: empty files may stand behind the last byte.
    last = None if portion.index == portion.count else total * portion.index // portion.count
    spans, begin = [], 0
    for file, repeat in passes:
        span = _overlap(file, repeat, first - begin, None if last is None else last - begin)
        if span is not None:
            spans.append(span)
        begin += file.size_bytes
    return spans


def _overlap(file: CorpusFile, repeat: int, first: int, last: int | None) -> FileSpan | None:
    if first > 0 and (first >= file.size_bytes or not _is_divisible(file)):
        return None
    if last is not None and last <= 0:
        return None
    is_cut = last is not None and last < file.size_bytes and _is_divisible(file)
    return FileSpan(file=file, start=max(0, first), stop=last if is_cut else None, repeat=repeat)


def _is_divisible(file: CorpusFile) -> bool:
    return file.content_suffix in (*RECORDS, PARQUET) and not file.is_compressed
