"""Rows of a parquet column are documents; what is no text is named by its row."""

import random
import subprocess
import sys
import tracemalloc

import pyarrow as pa
import pytest
from pyarrow import parquet

from apr.data.corpus import Place, ReadCounts, read_corpus
from apr.data.errors import ParquetBroken, RecordFieldMissing, RecordFieldNotText, TextNotUtf8
from apr.data.spans import Portion

TEXTS = [f"row {number} \u00e9\r\n" + "x" * (number * 7 % 50) for number in range(1000)]


def write(path, values=TEXTS, kind=None, rows=90, **columns):
    table = pa.table({"id": list(range(len(values))), "content": pa.array(values, kind), **columns})
    parquet.write_table(table, path, row_group_size=rows)
    return path


def texts(*paths, **options):
    return [document.text for document in read_corpus(paths, **options)]


def fault(kind, *paths, **options):
    with pytest.raises(kind) as caught:
        texts(*paths, **options)
    return caught.value


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_rows_are_documents_byte_for_byte(tmp_path, kind):
    found = list(read_corpus([write(tmp_path / "a.parquet", kind=kind)]))
    assert [document.text for document in found] == TEXTS
    assert found[99].origin.endswith("a.parquet:100")


def test_another_column_may_hold_the_text(tmp_path):
    path = write(tmp_path / "a.PARQUET", ["a", "b"], text=["c", "d"])
    assert texts(path, content_field="text") == ["c", "d"]
    error = fault(RecordFieldMissing, path, content_field="body")
    assert (error.field, error.found) == ("body", "content, id, text")
    reader = read_corpus([path], content_field="body", on_bad="skip")
    assert (list(reader), reader.counts.bad["field_missing"]) == ([], 1)


def test_what_is_no_text_is_named_by_its_row_or_counted(tmp_path):
    path = write(tmp_path / "a.parquet", ["a", None, "", "b"])
    assert fault(RecordFieldNotText, path).line == 2
    reader = read_corpus([path], on_bad="skip")
    assert [document.text for document in reader] == ["a", "b"]
    assert (reader.counts.bad["field_not_text"], reader.counts.num_empty) == (1, 1)
    assert fault(RecordFieldNotText, path, content_field="id").line == 1
    spoilt = pa.array([b"ok", b"\xff\xfe"]).view(pa.string())
    parquet.write_table(pa.table({"content": spoilt}), tmp_path / "b.parquet")
    assert fault(TextNotUtf8, tmp_path / "b.parquet").place.endswith("b.parquet:2")


def test_a_damaged_file_is_refused(tmp_path):
    path = write(tmp_path / "a.parquet")
    content = path.read_bytes()
    page = bytearray(content)
    for at in range(2000, 6000):
        page[at] ^= 0x5A
    for number, damaged in enumerate((b"", b"PAR1", b"text", content[:-9], bytes(page))):
        other = tmp_path / f"{number}.parquet"
        other.write_bytes(damaged)
        for on_bad in ("fail", "skip"):
            assert fault(ParquetBroken, other, on_bad=on_bad).path == str(other)


@pytest.mark.parametrize("count", [1, 2, 5, 30])
def test_parts_are_cut_between_row_groups(tmp_path, count):
    write(tmp_path / "a.parquet")
    write(tmp_path / "b.parquet", TEXTS[:10])
    parts = [texts(tmp_path, portion=Portion(index=i, count=count)) for i in range(1, count + 1)]
    assert [text for part in parts for text in part] == TEXTS + TEXTS[:10]
    assert count == 1 or max(map(len, parts)) < 1000


@pytest.mark.parametrize("stop", [1, 89, 90, 91, 500, 999, 1000])
def test_reading_goes_on_behind_any_row(tmp_path, stop):
    write(tmp_path / "a.parquet")
    reader = read_corpus([tmp_path])
    documents = iter(reader)
    for _ in range(stop):
        next(documents)
    again = read_corpus([tmp_path])
    assert [document.text for document in again.read_from(reader.place, ReadCounts())] == TEXTS[stop:]
    assert reader.place == Place(span=0, record=stop, offset=0)


def test_memory_does_not_grow_with_the_row_group(tmp_path):
    path = write(tmp_path / "a.parquet", [random.randbytes(1000).hex() for _ in range(20_000)], rows=20_000)
    pa.default_memory_pool().release_unused()
    before = pa.default_memory_pool().bytes_allocated()
    tracemalloc.start()
    try:
        most = 0
        for _ in read_corpus([path]):
            most = max(most, pa.default_memory_pool().bytes_allocated() - before)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
        assert most < 10_000_000
    finally:
        tracemalloc.stop()


def test_pyarrow_is_loaded_only_when_such_a_file_is_met(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    program = (
        "import sys; from pathlib import Path; from apr.data.corpus import read_corpus; "
        f"list(read_corpus([Path({str(tmp_path / 'a.txt')!r})])); sys.exit('pyarrow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
