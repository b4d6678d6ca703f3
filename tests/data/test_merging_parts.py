"""Parts made on several machines give together the bytes of one run, whatever is cut and wherever."""

import gzip
import json
import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apr.base.errors import BadOption, OutputExists
from apr.data.corpus import read_corpus
from apr.data.encode import encode_corpus, encode_part
from apr.data.encode_options import EncodeOptions
from apr.data.errors import (
    CorpusEmpty,
    DatasetIsPart,
    NotAPart,
    PartChanged,
    PartForeign,
    PartMissing,
    PartTwice,
    SplitEmpty,
    UnknownTokens,
)
from apr.data.merge import merge_parts
from apr.data.shards import open_dataset
from apr.data.sources import Source
from apr.data.spans import Portion, parse_portion
from byte_tokenizer import ByteTokenizer

OPTIONS = EncodeOptions(shard_tokens=500, val_fraction=0.3, on_bad="skip")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def write_corpus(folder, num_lines=60):
    folder.mkdir()
    lines = [json.dumps({"content": f"document {i} " + "x" * (i * 37 % 90)}) for i in range(num_lines)]
    lines[5], lines[40 % num_lines] = "", "bad"
    content = "\n".join(lines).encode()
    (folder / "a.jsonl").write_bytes(content)
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(content.replace(b"document", b"compressed")))
    for i in range(6):
        (folder / f"c{i}.txt").write_text(f"text {i}\n" * (i * 5 % 17))
    (folder / "d.jsonl").write_bytes(b"")
    (folder / "e.txt").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus") / "text")


def files_of(folder):
    """Every file of a dataset, without the seconds."""
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    for name in [name for name in files if name.endswith("manifest.json")]:
        files[name] = {**json.loads(files[name]), "elapsed_s": 0}
    return files


def make_parts(sources, folder, count, options=OPTIONS, tokenizer=None):
    parts = [folder / f"part{index}" for index in range(1, count + 1)]
    for index, part in enumerate(parts, 1):
        portion = Portion(index=index, count=count)
        encode_part(sources, tokenizer or ByteTokenizer(), part, options=options, portion=portion)
    return parts


@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("policy", ["after", "between", "none"])
def test_all_parts_give_the_bytes_of_one_run(tmp_path, corpus, count, policy):
    options = EncodeOptions(shard_tokens=500, val_fraction=0.3, on_bad="skip", eos_policy=policy)
    sources = [Source(path=corpus, weight=1.5), corpus / "a.jsonl"]
    one = encode_corpus(sources, ByteTokenizer(), tmp_path / "one", options=options)
    parts = make_parts(sources, tmp_path, count, options)
    merged = merge_parts(parts[::-1], tmp_path / "merged", force=False)
    assert files_of(tmp_path / "merged") == files_of(tmp_path / "one")
    assert (merged.counts, merged.unknown_fraction) == (one.counts, one.unknown_fraction)
    open_dataset(tmp_path / "merged")


def test_parts_need_no_held_out_side(tmp_path, corpus):
    options = EncodeOptions(val_fraction=0.0, on_bad="skip")
    encode_corpus([corpus], ByteTokenizer(), tmp_path / "one", options=options)
    merge_parts(make_parts([corpus], tmp_path, 3, options), tmp_path / "merged")
    assert files_of(tmp_path / "merged") == files_of(tmp_path / "one")


@given(
    st.lists(st.lists(st.integers(0, 12), max_size=6), min_size=1, max_size=4),
    st.integers(1, 9),
    st.booleans(),
)
def test_every_record_is_in_one_part(tmp_path_factory, files, count, ends_in_a_break):
    folder = tmp_path_factory.mktemp("spans")
    number = 0
    for index, sizes in enumerate(files):
        lines = []
        for size in sizes:
            lines.append(json.dumps({"content": f"{number}" + "x" * size}))
            number += 1
        (folder / f"{index}.jsonl").write_text("\n".join(lines) + "\n" * (ends_in_a_break and bool(lines)))
    whole = list(read_corpus([folder]))
    parts = [read_corpus([folder], portion=Portion(index=i, count=count)) for i in range(1, count + 1)]
    assert [document for part in parts for document in part] == whole
    assert sum(part.counts.num_files for part in parts) == len(files)
    assert sum(part.bytes_total for part in parts) == sum(p.stat().st_size for p in folder.iterdir())


def test_a_part_of_a_large_file_is_a_part_of_it(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"content": "0123456789"}\n' * 1000)
    counts = [len(list(read_corpus([tmp_path], portion=Portion(index=i, count=4)))) for i in range(1, 5)]
    assert counts == [250, 250, 250, 250]


@pytest.mark.parametrize("text", ["0/2", "3/2", "1/0", "1", "a/b", "1/2/3", "", "-1/2", "1.0/2"])
def test_a_part_that_is_none_is_refused(text):
    with pytest.raises(BadOption) as caught:
        parse_portion(text)
    assert caught.value.option == "--part"


@pytest.fixture(scope="module")
def three(tmp_path_factory, corpus):
    return make_parts([corpus], tmp_path_factory.mktemp("three"), 3)


def refused(kind, parts, out, **more):
    with pytest.raises(kind) as caught:
        merge_parts(parts, out, **more)
    assert not out.exists()
    return caught.value


def test_a_part_is_no_dataset(three):
    for folder in (three[1], three[1] / "val"):
        with pytest.raises(DatasetIsPart) as caught:
            open_dataset(folder)
        assert (caught.value.index, caught.value.count) == (2, 3)


def test_missing_and_doubled_parts_are_refused_by_name(tmp_path, three):
    error = refused(PartMissing, three[:1], tmp_path / "out")
    assert (error.missing, error.count) == ("2, 3", 3)
    error = refused(PartTwice, [three[0], three[1], three[0], three[2]], tmp_path / "out")
    assert (error.first, error.second, error.index) == (str(three[0]), str(three[0]), 1)


def test_a_foreign_part_is_refused_by_name(tmp_path, three, corpus):
    copy = shutil.copytree(corpus, tmp_path / "text")
    tokenizer = ByteTokenizer(normalizer={"type": "NFC"})
    foreign = {
        "--seed": {"options": EncodeOptions(shard_tokens=500, val_fraction=0.3, on_bad="skip", seed=1)},
        "--shard-tokens": {"options": EncodeOptions(shard_tokens=501, val_fraction=0.3, on_bad="skip")},
        "tokenizer": {"tokenizer": tokenizer},
    }
    for field, change in foreign.items():
        arguments = {"options": OPTIONS, "tokenizer": ByteTokenizer(), **change}
        part = tmp_path / field
        engine = arguments.pop("tokenizer")
        encode_part([corpus], engine, part, portion=Portion(index=2, count=3), **arguments)
        error = refused(PartForeign, [three[0], part, three[2]], tmp_path / "out")
        assert (error.folder, error.first, error.field) == (str(part), str(three[0]), field)
    (copy / "c3.txt").write_text("longer than before")
    encode_part([copy], ByteTokenizer(), tmp_path / "p", options=OPTIONS, portion=Portion(index=2, count=3))
    assert refused(PartForeign, [three[0], tmp_path / "p", three[2]], tmp_path / "out").field == (
        "list of corpus files"
    )
    encode_part([corpus], ByteTokenizer(), tmp_path / "q", options=OPTIONS, portion=Portion(index=2, count=4))
    assert refused(PartForeign, [*three, tmp_path / "q"], tmp_path / "out").field == "number of parts"


def test_what_is_no_part_is_refused_by_name(tmp_path, three, corpus):
    encode_corpus([corpus], ByteTokenizer(), tmp_path / "whole", options=OPTIONS)
    cut = shutil.copytree(three[1], tmp_path / "cut")
    os.truncate(cut / "manifest.json", 50)
    unread = shutil.copytree(three[1], tmp_path / "unread")
    values = json.loads((unread / "manifest.json").read_bytes())
    del values["record"]["plan"]
    (unread / "manifest.json").write_text(json.dumps(values))
    for folder in (tmp_path / "whole", tmp_path / "nothing", cut, unread):
        error = refused(NotAPart, [three[0], folder, three[2]], tmp_path / "out")
        assert error.folder == str(folder)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["shard-00000.bin", "val/shard-00000.bin", "ledger.log"])
@pytest.mark.parametrize("damage", [flip, lambda path: os.truncate(path, path.stat().st_size - 4)])
def test_a_damaged_part_is_refused_and_nothing_is_left(tmp_path, three, name, damage):
    copy = shutil.copytree(three[1], tmp_path / "copy")
    damage(copy / name)
    error = refused(PartChanged, [three[0], copy, three[2]], tmp_path / "out")
    assert error.path == str(copy / name)


def test_an_output_that_is_there_or_holds_a_part_is_refused(tmp_path, three):
    merge_parts(three, tmp_path / "out")
    with pytest.raises(OutputExists):
        merge_parts(three, tmp_path / "out")
    merge_parts(three, tmp_path / "out", force=True)
    for out in (three[0], three[0] / "in", three[0].parent):
        with pytest.raises(BadOption):
            merge_parts(three, out, force=True)


def test_what_one_run_refuses_the_merge_refuses(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"content": ""}\n' * 9)
    refused(CorpusEmpty, make_parts([tmp_path / "a.jsonl"], tmp_path, 2), tmp_path / "out")
    (tmp_path / "b.txt").write_text("one")
    parts = make_parts([tmp_path / "b.txt"], tmp_path / "b", 2)
    assert refused(SplitEmpty, parts, tmp_path / "out").num_train + 1 in (1, 2)
    tokenizer = ByteTokenizer()
    tokenizer.unknown_id = ord("?")
    (tmp_path / "c.jsonl").write_text('{"content": "abc"}\n' * 50 + '{"content": "??????"}\n' * 2)
    parts = make_parts([tmp_path / "c.jsonl"], tmp_path / "c", 2, EncodeOptions(val_fraction=0.0), tokenizer)
    assert refused(UnknownTokens, parts, tmp_path / "out").num_unknown == 12
