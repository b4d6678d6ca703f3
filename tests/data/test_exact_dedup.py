"""Copies of earlier documents are left out, each is listed with the one it equals, and nothing else is lost."""

from __future__ import annotations

import hashlib
import json
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apr.base.errors import Interrupted
from apr.data import encode
from apr.data.digest_index import DigestIndex
from apr.data.encode import encode_corpus, encode_part
from apr.data.encode_options import EncodeOptions
from apr.data.errors import DedupInParts, EncodingDiffers
from apr.data.manifest import read_manifest
from apr.data.sources import Source
from apr.data.spans import Portion
from apr.data.writer import DUPLICATES_NAME
from byte_tokenizer import ByteTokenizer
from deduplicated import listed, texts_of, write_source

OPTIONS = EncodeOptions(shard_tokens=500, val_fraction=0.25, dedup="exact")


TEXTS = [f"document {i} " * (i % 5 + 1) for i in range(40)]
COPIED = [text for i, text in enumerate(TEXTS) for text in [text, *([TEXTS[i // 2]] if i % 3 == 0 else [])]]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """40 texts, 14 copies between them, encoded with and without them."""
    folder = tmp_path_factory.mktemp("exact")
    corpus = write_source(folder / "text", COPIED)
    clean = write_source(folder / "clean", TEXTS)
    encode_corpus([corpus], ByteTokenizer(), folder / "out", options=OPTIONS)
    encode_corpus([clean], ByteTokenizer(), folder / "one", options=OPTIONS)
    return folder


def test_what_is_left_is_each_text_once(made):
    for side in ("out", "out/val"):
        assert texts_of(made / side) == texts_of(made / side.replace("out", "one"))
    everything = texts_of(made / "out") + texts_of(made / "out/val")
    assert sorted(everything) == sorted(TEXTS)
    assert not set(texts_of(made / "out")) & set(texts_of(made / "out/val"))
    for path in (made / "out").glob("shard-*.bin"):
        assert path.read_bytes() == (made / "one" / path.name).read_bytes()


def test_what_was_left_out_is_listed_with_what_it_equals(made):
    rows = listed(made / "out")
    assert len(rows) == len(COPIED) - len(TEXTS) == 14
    for row in rows:
        copy, kept = Path(str(row["document"])), Path(str(row["equals"]))
        assert copy.read_text() == kept.read_text()
        assert kept.name < copy.name
        assert row["sha256"] == hashlib.sha256(copy.read_bytes()).hexdigest()
        assert row["num_bytes"] == copy.stat().st_size
    assert len({row["document"] for row in rows}) == len(rows)
    assert listed(made / "one") == []


def test_the_manifest_and_its_digest_say_so(made):
    rows = listed(made / "out")
    for side in ("out", "out/val"):
        found = read_manifest(made / side).dedup
        assert found is not None
        size = sum(int(str(row["num_bytes"])) for row in rows)
        assert found["dropped"] == [{"name": "text", "num_documents": 14, "num_bytes": size}]
        digests = b"".join(bytes.fromhex(str(row["sha256"])) for row in rows)
        assert found["dropped_sha256"] == hashlib.sha256(digests).hexdigest()
    plain = made / "plain"
    encode_corpus([made / "clean"], ByteTokenizer(), plain, options=EncodeOptions(val_fraction=0.25))
    assert read_manifest(plain).dedup is None
    assert "dedup" not in json.loads((plain / "manifest.json").read_bytes())
    assert not (plain / DUPLICATES_NAME).exists()


def test_the_dataset_is_the_same_wherever_the_corpus_lay(made, tmp_path):
    corpus = write_source(tmp_path / "elsewhere" / "text", COPIED)
    encode_corpus([corpus], ByteTokenizer(), tmp_path / "out", options=OPTIONS)
    assert read_manifest(tmp_path / "out").digest == read_manifest(made / "out").digest


@settings(max_examples=25)
@given(
    sources=st.lists(
        st.tuples(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5), st.sampled_from([1, 2, 3])),
        min_size=1,
        max_size=3,
    )
)
def test_a_weight_still_repeats_what_is_kept(tmp_path_factory, sources):
    """Each text is its first source's, in that source's order, as often as the weight says, and once a reading."""
    folder = tmp_path_factory.mktemp("weights")
    expected, taken = [], set()
    given = []
    for number, (texts, weight) in enumerate(sources):
        given.append(Source(path=write_source(folder / f"s{number}", texts), weight=float(weight)))
        own = [text for text in dict.fromkeys(texts) if text not in taken]
        taken |= set(own)
        expected += own * weight
    options = EncodeOptions(val_fraction=0.0, dedup="exact")
    encode_corpus(given, ByteTokenizer(), folder / "out", options=options)
    assert texts_of(folder / "out") == expected
    dedup = read_manifest(folder / "out").dedup
    assert dedup is not None
    lost = sum(len(texts) * weight for texts, weight in sources) - len(expected)
    assert sum(row["num_documents"] for row in dedup["dropped"]) == lost == len(listed(folder / "out"))


@pytest.mark.parametrize("after", [1, 3, 6])
def test_an_encoder_that_was_stopped_ends_in_the_same_bytes(made, tmp_path, monkeypatch, after):
    monkeypatch.setattr(encode, "_BATCH_DOCUMENTS", 7)
    monkeypatch.setattr(encode, "_JOURNAL_EVERY_S", 0.0)
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    calls = []

    def stop(*figures: object) -> None:
        calls.append(figures)
        if len(calls) == after:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        encode_corpus([made / "text"], ByteTokenizer(), out, options=OPTIONS, on_progress=stop)
    with pytest.raises(EncodingDiffers) as caught:
        encode_corpus(
            [made / "text"], ByteTokenizer(), out, options=EncodeOptions(shard_tokens=500, val_fraction=0.25)
        )
    assert caught.value.field == "--dedup"
    found = encode_corpus([made / "text"], ByteTokenizer(), out, options=OPTIONS)
    assert found.num_tokens_before > 0
    assert found.train.digest == read_manifest(made / "out").digest
    names = {path.relative_to(out) for path in out.rglob("*.*") if path.name != "manifest.json"}
    assert names == {
        p.relative_to(made / "out") for p in (made / "out").rglob("*.*") if p.name != "manifest.json"
    }
    for name in names:
        assert (out / name).read_bytes() == (made / "out" / name).read_bytes()


def test_force_leaves_no_list_of_another_dataset(made, tmp_path):
    out = tmp_path / "out"
    encode_corpus([made / "text"], ByteTokenizer(), out, options=OPTIONS)
    encode_corpus([made / "text"], ByteTokenizer(), out, options=EncodeOptions(val_fraction=0.25), force=True)
    assert not (out / DUPLICATES_NAME).exists()


def test_a_part_is_refused_before_anything_is_written(made, tmp_path):
    with pytest.raises(DedupInParts) as caught:
        encode_part(
            [made / "text"],
            ByteTokenizer(),
            tmp_path / "out",
            options=OPTIONS,
            portion=Portion(index=1, count=2),
        )
    assert caught.value.part == "1/2"
    assert not (tmp_path / "out").exists()


KEYS = st.binary(min_size=32, max_size=32)


@given(st.lists(st.tuples(KEYS, st.integers(0, 2**64 - 1))), st.data())
def test_the_index_is_a_dictionary(rows, data):
    """Digests that share their first eight bytes among them, and numbers that are given anew."""
    index, expected = DigestIndex(), {}
    for key, value in rows:
        if expected and data.draw(st.booleans()):
            other = data.draw(st.sampled_from(sorted(expected)))
            key = data.draw(st.sampled_from([other, other[:8] + key[8:]]))
        index.put(key, value)
        expected[key] = value
        if data.draw(st.booleans()):
            index._sort_in()
        assert all(index.get(known) == number for known, number in expected.items())
    assert len(index) == len(expected)
    assert index.get(b"\0" * 32) == expected.get(b"\0" * 32)


def test_a_million_digests_take_some_24_megabytes():
    tracemalloc.start()
    try:
        index = DigestIndex()
        for number in range(200_000):
            index.put(hashlib.sha256(number.to_bytes(8)).digest(), number)
        index._sort_in()
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(index) == 200_000
    assert held < 200_000 * 24 * 1.1
    assert all(index.get(hashlib.sha256(n.to_bytes(8)).digest()) == n for n in range(0, 200_000, 1009))
