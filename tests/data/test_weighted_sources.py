"""A weight says how often a source's documents are taken; what is held out is taken once at most."""

import json
import math

import pytest

from apr.base.errors import BadOption
from apr.data.encode import encode_corpus
from apr.data.encode_options import EncodeOptions
from apr.data.shards import open_dataset
from apr.data.sources import Source, parse_source
from apr.data.split import is_validation
from byte_tokenizer import END_OF_TEXT, ByteTokenizer

TEXTS = [f"document {number}" for number in range(400)]


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "book.jsonl"
    path.write_text("".join(json.dumps({"content": text}) + "\n" for text in TEXTS) + "\n")
    return path


def encoded(out, *sources, **options):
    options = EncodeOptions(**{"val_fraction": 0.25, **options})
    encode_corpus(sources, ByteTokenizer(), out, options=options)
    train, held_out = open_dataset(out), open_dataset(out / "val")
    return train.manifest, documents(train), documents(held_out)


def documents(dataset):
    ids = dataset.slice(0, dataset.total_tokens).tolist()
    text = "".join("\n" if token == END_OF_TEXT else chr(token) for token in ids)
    return text.splitlines()


KEPT = [text for text in TEXTS if not is_validation(text, 42, 0.25)]
HELD_OUT = [text for text in TEXTS if is_validation(text, 42, 0.25)]


def test_twice_is_the_source_read_twice_and_what_is_held_out_once(tmp_path, book):
    _, train, held_out = encoded(tmp_path / "out", Source(path=book, weight=2))
    assert train == KEPT * 2
    assert held_out == HELD_OUT


def test_a_half_takes_about_half_of_both_sides_by_their_hash(tmp_path, book):
    _, train, held_out = encoded(tmp_path / "out", Source(path=book, weight=0.5))
    assert 0.4 < len(train) / len(KEPT) < 0.6
    assert 0.35 < len(held_out) / len(HELD_OUT) < 0.65
    assert train == [text for text in KEPT if text in set(train)]
    assert encoded(tmp_path / "again", Source(path=book, weight=0.5))[1] == train
    larger = encoded(tmp_path / "larger", Source(path=book, weight=0.7))[1]
    assert set(train) < set(larger)
    other = encoded(tmp_path / "seed", Source(path=book, weight=0.5), seed=43)
    assert set(train + held_out) != set(other[1] + other[2])


def test_one_and_a_half_is_everything_and_then_that_half(tmp_path, book):
    _, half, _ = encoded(tmp_path / "half", Source(path=book, weight=0.5))
    _, train, held_out = encoded(tmp_path / "out", Source(path=book, weight=1.5))
    assert train == KEPT + half
    assert held_out == HELD_OUT


def test_what_each_source_gave_is_recorded(tmp_path, book):
    other = tmp_path / "folder" / "notes"
    other.mkdir(parents=True)
    (other / "a.txt").write_text("text of notes")
    manifest, train, _ = encoded(tmp_path / "out", Source(path=book, weight=2), Source(path=other))
    assert [(source.name, source.weight) for source in manifest.sources] == [
        ("book.jsonl", 2.0),
        ("notes", 1.0),
    ]
    sums = [(source.num_documents, source.num_tokens, source.num_bytes) for source in manifest.sources]
    size = sum(len(text) for text in KEPT * 2)
    assert sums == [(2 * len(KEPT), size, size), (1, 13, 13)]
    assert train[-1] == "text of notes"
    assert (manifest.total_documents, manifest.empty_documents) == (2 * len(KEPT) + 1, 1)


def test_a_path_may_hold_a_colon(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("plain", "with:colon", "looks:2"):
        (tmp_path / name).mkdir()
    for text, name, weight in (
        ("plain", "plain", 1.0),
        ("plain:0.5", "plain", 0.5),
        ("plain:1e1", "plain", 10.0),
        ("with:colon", "with:colon", 1.0),
        ("with:colon:3", "with:colon", 3.0),
        ("looks:2", "looks:2", 1.0),
        ("looks:2:0.25", "looks:2", 0.25),
        ("no:such", "no:such", 1.0),
        (":2", ":2", 1.0),
    ):
        assert (str(parse_source(text).path), parse_source(text).weight) == (name, weight)


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "1001"])
def test_a_weight_that_cannot_be_meant_is_refused(tmp_path, book, weight):
    with pytest.raises(BadOption) as caught:
        parse_source(f"{book}:{weight}")
    assert caught.value.option == "--corpus"
    if not math.isnan(float(weight)):
        with pytest.raises(BadOption):
            encoded(tmp_path / "out", Source(path=book, weight=float(weight)))
    assert not (tmp_path / "out").exists()
