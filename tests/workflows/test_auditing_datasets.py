"""What the audit says of a dataset is true of the texts that went in."""

import json
import math
from collections import Counter

import numpy as np
import pytest

from apr.cli.main import entry
from apr.data import figures
from apr.data.encode import encode_corpus
from apr.data.encode_options import EncodeOptions
from apr.data.errors import ShardChanged
from apr.data.figures import document_hashes
from apr.data.shards import open_dataset
from apr.tokenizer.definition import save_definition
from apr.tokenizer.engine import TextTokenizer
from apr.train.errors import TokenizerMismatch
from apr.workflows import auditing
from apr.workflows.auditing import audit_dataset
from tiny import make_tokenizer, words

TEXTS = [words(number) for number in range(30)] + ["the long one " * 90, words(4), words(3), words(3)]


def make(folder, texts=TEXTS, **options):
    source = folder / "text.jsonl"
    source.write_text("".join(json.dumps({"content": text}) + "\n" for text in texts))
    how = EncodeOptions(**{"val_fraction": 0.0, "shard_tokens": 700, **options})
    encode_corpus([source], TextTokenizer(make_tokenizer()), folder / "shards", options=how)
    return folder / "shards"


@pytest.fixture
def tokenizer(tmp_path):
    save_definition(make_tokenizer(), tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


@pytest.mark.parametrize("policy", ["after", "between", "none"])
def test_the_figures_are_those_of_the_texts(tmp_path, tokenizer, policy, monkeypatch):
    monkeypatch.setattr(figures, "_BLOCK_TOKENS", 1000)
    folder = make(tmp_path, eos_policy=policy)
    engine = TextTokenizer(make_tokenizer())
    ids = [engine.encode(text) for text in TEXTS]
    result = audit_dataset(folder, tokenizer_path=tokenizer)
    (side,) = result["sides"]
    separators = {"after": len(TEXTS), "between": len(TEXTS) - 1, "none": 0}[policy]
    counts = Counter(token for row in ids for token in row) + Counter({0: separators})
    total = counts.total()
    assert (side["num_tokens"], side["num_documents"], side["num_distinct_ids"]) == (
        *(total, len(TEXTS)),
        len(counts),
    )
    entropy = -sum(n / total * math.log(n / total) for n in counts.values())
    assert side["unigram_entropy_nats"] == pytest.approx(entropy)
    text_bytes = sum(len(text.encode()) for text in TEXTS)
    assert side["bytes_per_token"] == pytest.approx(text_bytes / sum(map(len, ids)))
    assert side["num_duplicates"] == 3
    assert side["num_unknown"] is None  # this tokenizer has no such token
    longest = max(range(len(TEXTS)), key=lambda index: len(ids[index]))
    assert side["longest"][0]["document"] == longest
    sizes = [row["num_tokens"] for row in side["longest"]]
    assert sizes == sorted(sizes, reverse=True)
    assert [row["document"] for row in side["samples"]] == [0, 11, 22]
    for row in side["samples"]:
        assert row["text"].startswith(TEXTS[row["document"]][:30])


def test_blocks_do_not_show(tmp_path, monkeypatch):
    dataset = open_dataset(make(tmp_path))
    expected = document_hashes(dataset)
    for size in (1, 100, 2000):
        monkeypatch.setattr(figures, "_BLOCK_TOKENS", size)
        assert np.array_equal(document_hashes(dataset), expected)


def test_both_sides_are_told_and_what_they_share(tmp_path, capsys, tokenizer):
    folder = make(tmp_path, val_fraction=0.3)
    result = audit_dataset(folder)
    assert [side["part"] for side in result["sides"]] == ["train", "validation"]
    assert (result["num_shared"], result["sides"][0]["samples"]) == (0, [])
    assert result["sources"][0]["name"] == "text.jsonl"
    assert entry(["data", "audit", str(folder), "--tokenizer", str(tokenizer), "--format", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [side["num_tokens"] for side in said["sides"]] == [s["num_tokens"] for s in result["sides"]]
    assert entry(["data", "audit", str(folder), "--tokenizer", str(tokenizer)]) == 0
    text = capsys.readouterr().out
    assert "unigram entropy" in text
    assert "\\n" in text  # a line break of a document is spelled out


def test_what_is_trained_on_and_held_out_is_counted(tmp_path):
    make(tmp_path)
    (tmp_path / "other").mkdir()
    make(tmp_path / "other", TEXTS[:5]).rename(tmp_path / "shards/val")
    assert audit_dataset(tmp_path / "shards")["num_shared"] == 5


def test_a_damaged_dataset_and_another_tokenizer_are_refused(tmp_path):
    folder = make(tmp_path)
    save_definition(make_tokenizer(300), tmp_path / "other")
    with pytest.raises(TokenizerMismatch):
        audit_dataset(folder, tokenizer_path=tmp_path / "other")
    content = bytearray((folder / "shard-00001.bin").read_bytes())
    content[0] ^= 1
    (folder / "shard-00001.bin").write_bytes(content)
    with pytest.raises(ShardChanged):
        audit_dataset(folder)


def test_unknown_tokens_are_counted_where_the_tokenizer_has_one(tmp_path, tokenizer, monkeypatch):
    class Unknowing(TextTokenizer):
        def __init__(self, definition):
            super().__init__(definition)
            self.unknown_id = self.encode("x")[0]

    folder = make(tmp_path, ["xx", "a x", "b"])
    monkeypatch.setattr(auditing, "TextTokenizer", Unknowing)
    assert audit_dataset(folder, tokenizer_path=tokenizer)["sides"][0]["num_unknown"] == 3


def test_copies_that_were_left_out_are_told(tmp_path, capsys):
    folder = make(tmp_path, dedup="exact")
    found = audit_dataset(folder)
    assert found["sides"][0]["num_duplicates"] == 0
    size = sum(len(text) for text in (words(4), words(3), words(3)))
    assert found["dedup"]["dropped"] == [{"name": "text.jsonl", "num_documents": 3, "num_bytes": size}]
    assert entry(["data", "audit", str(folder)]) == 0
    assert f"3 copies of earlier documents left out, {size:,} bytes" in capsys.readouterr().out


def test_what_resembled_and_was_left_out_is_told(tmp_path, capsys):
    long = words(40)
    folder = make(tmp_path, [long, long, f"{long} more", "another"], dedup="near", val_fraction=0.0)
    near = audit_dataset(folder)["dedup"]["near"]
    assert near["threshold"] == 0.8
    assert entry(["data", "audit", str(folder)]) == 0
    assert "2 copies of earlier documents left out (1 of them not to the byte, but" in capsys.readouterr().out
