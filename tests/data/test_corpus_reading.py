"""Documents come out byte for byte, in one order, and nothing bad goes unseen."""

import gzip
import json
import os
import tracemalloc

import pytest
import zstandard

from apr.base.errors import AprError, BadOption, CannotRead, NotYet
from apr.data import corpus
from apr.data.corpus import read_corpus
from apr.data.errors import (
    CompressedFileBroken,
    CorpusMissing,
    DocumentTooLarge,
    GlobMatchesNothing,
    RecordFieldMissing,
    RecordFieldNotText,
    RecordNotJson,
    TextNotUtf8,
)
from apr.data.sources import Source, corpus_files

# A byte-order mark, both newlines, a tab, a zero byte, a non-character, letters beyond the basic plane.
AWKWARD = "\ufeffa\r\nb\rc\n\n\td\x00\uffff\U0001f600 \u0645\u0631\u062d\u0628\u0627 e"


def zstd(content: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(content)


COMPRESS = {"": bytes, ".gz": gzip.compress, ".zst": zstd}


def texts(*paths, **options):
    return [document.text for document in read_corpus(paths, **options)]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_text_file_is_one_document_byte_for_byte(tmp_path, suffix):
    path = tmp_path / f"awkward.txt{suffix}"
    path.write_bytes(COMPRESS[suffix](AWKWARD.encode()))
    assert texts(path) == [AWKWARD]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_jsonl_file_is_one_document_a_line(tmp_path, suffix):
    wanted = [AWKWARD, "\u2028 is no line end in JSON", "last, without a newline"]
    # With the line separator as itself, where str.splitlines would cut.
    content = "\n".join(json.dumps({"content": text}, ensure_ascii=False) for text in wanted)
    path = tmp_path / f"records.jsonl{suffix}"
    path.write_bytes(COMPRESS[suffix](content.encode()))
    found = list(read_corpus([path]))
    assert [document.text for document in found] == wanted
    assert [document.origin for document in found] == [f"{path}:{line}" for line in (1, 2, 3)]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_every_member_of_a_compressed_file_is_read(tmp_path, suffix):
    path = tmp_path / f"two.txt{suffix}"
    path.write_bytes(COMPRESS[suffix](b"one ") + COMPRESS[suffix](b"") + COMPRESS[suffix](b"two"))
    assert texts(path) == ["one two"]


def test_a_zstandard_file_larger_than_any_buffer_is_whole(tmp_path):
    wanted = [f"{number} " * 50 for number in range(20_000)]
    path = tmp_path / "large.jsonl.zst"
    path.write_bytes(zstd("\n".join(json.dumps({"content": text}) for text in wanted).encode()))
    assert texts(path) == wanted


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("damage", ["cut off", "changed", "empty"])
@pytest.mark.parametrize("on_bad", ["fail", "skip"])
def test_a_damaged_compressed_file_is_never_a_shorter_one(tmp_path, suffix, damage, on_bad):
    whole = COMPRESS[suffix](os.urandom(5000).hex().encode())
    content = {"cut off": whole[:-9], "changed": b"\0\0\0\0" + whole[4:], "empty": b""}[damage]
    path = tmp_path / f"damaged.txt{suffix}"
    path.write_bytes(content)
    with pytest.raises(CompressedFileBroken) as caught:
        texts(path, on_bad=on_bad)
    assert caught.value.path == str(path)


def test_a_folder_is_read_in_the_order_of_relative_paths(tmp_path):
    names = ["b.txt", "a/z.py", "a.txt", "a/b/c", "B.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert texts(tmp_path) == sorted(names)
    assert texts(tmp_path, glob="**/*.txt") == ["B.txt", "a.txt", "b.txt"]
    assert texts(tmp_path / "b.txt", tmp_path / "a") == ["b.txt", "a/b/c", "a/z.py"]


def test_a_named_file_is_read_whatever_the_glob(tmp_path):
    (tmp_path / "a.md").write_text("named")
    assert texts(tmp_path / "a.md", glob="*.txt") == ["named"]


BAD_LINES = {
    "not_json": (b"{'content': 1}", RecordNotJson),
    "not an object": (b'["content"]', RecordNotJson),
    "a byte-order mark": (b'\xef\xbb\xbf{"content": "x"}', RecordNotJson),
    "nested without end": (b"[" * 100_000, RecordNotJson),
    "field_missing": (b'{"text": "x"}', RecordFieldMissing),
    "field_not_text": (b'{"content": 7}', RecordFieldNotText),
    "null": (b'{"content": null}', RecordFieldNotText),
    "half a pair": (b'{"content": "\\ud83d"}', RecordFieldNotText),
    "not_utf8": (b'{"content": "\xff"}', TextNotUtf8),
}


@pytest.mark.parametrize(("line", "kind"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_is_named_or_counted(tmp_path, line, kind):
    path = tmp_path / "records.jsonl"
    path.write_bytes(b'{"content": "before"}\n' + line + b'\n{"content": "after"}\n')
    with pytest.raises(kind) as caught:
        texts(path)
    facts = caught.value.facts
    assert facts.get("line", 2) == 2
    assert str(path) in facts.get("path", facts.get("place"))
    reader = read_corpus([path], on_bad="skip")
    assert [document.text for document in reader] == ["before", "after"]
    assert reader.counts.num_skipped == 1
    counted = {RecordNotJson: "not_json", TextNotUtf8: "not_utf8"}
    counted |= {RecordFieldMissing: "field_missing", RecordFieldNotText: "field_not_text"}
    assert reader.counts.bad[counted[kind]] == 1


def test_the_offset_of_a_bad_byte_is_of_the_file(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"abc\xff")
    (tmp_path / "b.jsonl").write_bytes(b'{"content": "x"}\n{"content": "\xff"}\n')
    for name, offset, place in (("a.txt", 3, "a.txt"), ("b.jsonl", 30, "b.jsonl:2")):
        with pytest.raises(TextNotUtf8) as caught:
            texts(tmp_path / name)
        assert caught.value.byte_offset == offset
        assert caught.value.place == str(tmp_path / place)


def test_a_binary_file_is_refused_or_counted(tmp_path):
    (tmp_path / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "text.txt").write_text("text")
    with pytest.raises(TextNotUtf8):
        texts(tmp_path)
    reader = read_corpus([tmp_path], on_bad="skip")
    assert [document.text for document in reader] == ["text"]
    assert reader.counts.bad["not_utf8"] == 1


@pytest.mark.parametrize("name", ["rows.arrow", "rows.ORC", "rows.parquet.gz", "files.tar.gz", "files.zip"])
def test_a_format_of_a_later_release_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(b"PAR1 as text would pass")
    for on_bad in ("fail", "skip"):
        with pytest.raises(NotYet) as caught:
            texts(tmp_path / name, on_bad=on_bad)
        assert name in caught.value.option
    with pytest.raises(NotYet):
        texts(tmp_path)
    reader = read_corpus([tmp_path], on_bad="skip")
    assert list(reader) == []
    assert reader.counts.bad["format_unread"] == 1


def test_empty_documents_and_blank_lines_are_counted_and_left_out(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"")
    (tmp_path / "b.jsonl").write_bytes(b'{"content": ""}\n\n \r\n{"content": " "}\n')
    reader = read_corpus([tmp_path])
    assert [document.text for document in reader] == [" "]
    assert (reader.counts.num_empty, reader.counts.num_documents, reader.counts.num_files) == (4, 1, 2)


def test_another_field_may_hold_the_text(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x", "content": 1}\n')
    assert texts(tmp_path, content_field="text") == ["x"]


def test_reading_is_lazy_and_can_be_repeated(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"content": "x"}\nbroken\n')
    reader = read_corpus([path])
    for _ in range(2):
        documents = iter(reader)
        assert next(documents).text == "x"
        with pytest.raises(RecordNotJson):
            next(documents)
        assert reader.counts.num_documents == 1


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".json.gz", ".json.zst"])
def test_memory_does_not_grow_with_the_file(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(COMPRESS.get(path.suffix, bytes)(b'{"content": "%s"}\n' % (b"x" * 2000) * 30_000))
    tracemalloc.start()
    try:
        assert sum(len(document.text) for document in read_corpus([path])) == 60_000_000
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
@pytest.mark.parametrize("on_bad", ["fail", "skip"])
def test_a_document_beyond_the_limit_is_refused(tmp_path, monkeypatch, name, on_bad):
    monkeypatch.setattr(corpus, "MAX_DOCUMENT_BYTES", 100)
    (tmp_path / name).write_bytes(b" " * 100)
    texts(tmp_path, on_bad="skip")
    (tmp_path / name).write_bytes(b" " * 101)
    with pytest.raises(DocumentTooLarge):
        texts(tmp_path, on_bad=on_bad)


def test_progress_ends_at_the_total(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"content": "x"}\n' * 1000)
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"y" * 1000))
    reader = read_corpus([tmp_path])
    steps = [reader.counts.bytes_done for _ in reader]
    assert steps == sorted(steps)
    assert reader.counts.bytes_done == reader.bytes_total == sum(p.stat().st_size for p in tmp_path.iterdir())


def expected_error(kind, *paths, **options) -> AprError:
    with pytest.raises(kind) as caught:
        texts(*paths, **options)
    return caught.value


def test_what_is_not_there_is_refused(tmp_path):
    assert expected_error(CorpusMissing, tmp_path / "no").exit_code == 2
    assert expected_error(GlobMatchesNothing, tmp_path, glob="*.txt").glob == "*.txt"
    (tmp_path / "link.txt").symlink_to(tmp_path / "nowhere")
    expected_error(CannotRead, tmp_path)
    expected_error(BadOption, tmp_path, glob="")
    expected_error(BadOption, tmp_path, glob="/etc/*")
    expected_error(BadOption, tmp_path, on_bad="ignore")


@pytest.mark.parametrize("pattern", ["*", "*.py", "a?.py", "[!a]*.py", ".*", "x**", "no-such"])
def test_a_folder_is_listed_as_path_glob_lists_it(tmp_path, pattern):
    """One walk stands for Path.glob("**/..."), which says nothing of folders that it may not enter."""
    for name in ("a.py", "ab.py", ".hidden.py", "deep/.also/ac.py", "deep/b.txt", "deep/folder.py/inner.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    (tmp_path / "linked").symlink_to(tmp_path / "deep")
    (tmp_path / "link.py").symlink_to(tmp_path / "a.py")
    os.mkfifo(tmp_path / "pipe.py")
    source = [Source(path=tmp_path)]
    try:
        expected = sorted(
            p.relative_to(tmp_path).as_posix() for p in tmp_path.glob(f"**/{pattern}") if p.is_file()
        )
    except ValueError:
        with pytest.raises(BadOption):
            corpus_files(source, f"**/{pattern}")
        return
    if not expected:
        with pytest.raises(GlobMatchesNothing):
            corpus_files(source, f"**/{pattern}")
        return
    assert [file.name for file in corpus_files(source, f"**/{pattern}")] == expected
