"""Rows of parquet files, a few at a time; pyarrow is loaded when the first such file is met."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apr.base.errors import CannotRead
from apr.data.errors import ParquetBroken, RecordFieldMissing, RecordFieldNotText
from apr.data.records import Bad

_BATCH_ROWS = 64
_BUFFER_BYTES = 1 << 20  # read page by page: a column of one row group may be larger than memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row: the UTF-8 bytes of its text, or what is wrong with it."""

    found: bytes | Bad
    number: int  # in the file, counted from 1
    offset: int  # where its row group begins in the file
    origin: str


def parquet_rows(path: Path, column: str, start: int, stop: int | None, behind: int) -> Iterator[Row]:
    """The rows of the row groups that begin from byte `start` to below `stop`.

    Args:
        path: the file.
        column: that holds the text.
        start: a byte of the file.
        stop: a byte of the file; None for its end.
        behind: leave out the rows up to this number.

    Raises:
        ParquetBroken, CannotRead: the file is damaged, or the operating system refused.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
            yield from _rows(file, path, column, start, stop, behind)
    except (pyarrow.ArrowException, EOFError) as error:
        raise ParquetBroken(path=str(path), reason=_first_line(error)) from error
    except OSError as error:  # pyarrow raises it for broken pages too, without a number
        if error.errno is None:
            raise ParquetBroken(path=str(path), reason=_first_line(error)) from error
        raise CannotRead(path=str(path), reason=error.strerror or str(error)) from error


def _rows(file: Any, path: Path, column: str, start: int, stop: int | None, behind: int) -> Iterator[Row]:
    names = file.schema_arrow.names
    if column not in names:
        if not start and not behind:  # once a file
            found = ", ".join(sorted(names)) or "nothing"
            error = RecordFieldMissing(path=str(path), line=1, field=column, found=found)
            yield Row(found=("field_missing", error), number=1, offset=0, origin=str(path))
        return
    number = 0
    for group in range(file.metadata.num_row_groups):
        facts = file.metadata.row_group(group)
        first, number = number, number + facts.num_rows
        offset = _begin(facts)
        if offset < start or (stop is not None and offset >= stop) or number <= behind:
            continue
        for index, value in enumerate(_values(file, group, column), first + 1):
            if index > behind:
                yield _row(value, path, column, index, offset)


def _values(file: Any, group: int, column: str) -> Iterator[Any]:
    """The values of a column: bytes where it holds text, whatever else where it does not."""
    import pyarrow

    batches = file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=[column], use_threads=False)
    for batch in batches:
        values = batch.column(0)
        if isinstance(values, pyarrow.DictionaryArray):
            values = values.dictionary_decode()
        if pyarrow.types.is_string(values.type) or pyarrow.types.is_large_string(values.type):
            # As bytes: pyarrow does not look whether a text is UTF-8.
            yield from values.cast(pyarrow.large_binary()).to_pylist()
        else:
            yield from [str(values.type)] * len(values)


def _row(value: bytes | str | None, path: Path, column: str, number: int, offset: int) -> Row:
    origin = f"{path}:{number}"
    if isinstance(value, bytes):
        return Row(found=value, number=number, offset=offset, origin=origin)
    kind = "null" if value is None else f"a value of type {value}"
    error = RecordFieldNotText(path=str(path), line=number, field=column, kind=kind)
    return Row(found=("field_not_text", error), number=number, offset=offset, origin=origin)


def _begin(facts: Any) -> int:
    """Where a row group begins: at the first page of its first column."""
    column = facts.column(0)
    pages = (column.dictionary_page_offset, column.data_page_offset)
    return int(min(page for page in pages if page))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
