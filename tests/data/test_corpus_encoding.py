"""Text comes out of shards byte for byte; whatever breaks on the way leaves a folder that nobody reads."""

import json
import os
import signal
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from apr.base.errors import AprError, BadOption, CannotWrite, Interrupted, OutputExists
from apr.data import encode
from apr.data.audit import AUDIT_EVERY, AUDIT_FIRST
from apr.data.encode import EncodeOptions, encode_corpus
from apr.data.errors import (
    CorpusEmpty,
    DatasetUnfinished,
    EndOfTextMissing,
    RecordNotJson,
    RoundTripBroken,
    SplitEmpty,
    TokenIdTooLarge,
    UnknownTokens,
)
from apr.data.part import Part
from apr.data.shards import open_dataset
from apr.data.split import is_validation
from apr.tokenizer.definition import make_definition
from apr.tokenizer.engine import TextTokenizer

END_OF_TEXT = 256
WHOLE = EncodeOptions(val_fraction=0.0)


@pytest.fixture
def corpus(tmp_path):
    """Write these texts as one JSONL file."""

    def write(*texts, name="corpus.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps({"content": text}) + "\n" for text in texts))
        return [path]

    return write


def texts_of(dataset):
    """The documents of a dataset of bytes, separators checked and taken off."""
    tokens, starts = dataset.slice(0, dataset.total_tokens), [*dataset.document_starts.tolist()]
    documents = []
    ends = [*starts[1:], dataset.total_tokens]
    for number, (start, stop) in enumerate(zip(starts, ends, strict=True)):
        is_last = number == len(starts) - 1
        policy = dataset.manifest.eos_policy
        if policy == "after" or (policy == "between" and not is_last):
            stop -= 1
            assert tokens[stop] == END_OF_TEXT
        documents.append(bytes(tokens[start:stop].tolist()).decode())
    return documents


TEXTS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12), min_size=1, max_size=8
)


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.sampled_from(["after", "between", "none"]), st.integers(1, 20))
def test_the_text_comes_back_byte_for_byte(tmp_path_factory, byte_tokenizer, texts, policy, shard_tokens):
    folder = tmp_path_factory.mktemp("round")
    source = folder / "c.jsonl"
    source.write_text("".join(json.dumps({"content": text}) + "\n" for text in texts))
    options = EncodeOptions(eos_policy=policy, shard_tokens=shard_tokens, val_fraction=0.0)
    result = encode_corpus([source], byte_tokenizer, folder / "out", options=options)
    dataset = open_dataset(folder / "out")
    assert texts_of(dataset) == texts
    assert dataset.manifest == result.train
    sizes = [shard.num_tokens for shard in dataset.manifest.shards]
    assert all(size == shard_tokens for size in sizes[:-1])
    assert 1 <= sizes[-1] <= shard_tokens
    separators = {"after": len(texts), "between": len(texts) - 1, "none": 0}[policy]
    assert dataset.total_tokens == dataset.manifest.total_bytes + separators
    assert dataset.manifest.max_token_id == dataset.slice(0, dataset.total_tokens).max()


def test_shards_are_flat_little_endian_u32(tmp_path, corpus, byte_tokenizer):
    encode_corpus(corpus("ab"), byte_tokenizer, tmp_path / "out", options=WHOLE)
    assert (tmp_path / "out/shard-00000.bin").read_bytes() == b"a\0\0\0b\0\0\0\0\1\0\0"
    assert (tmp_path / "out/documents.bin").read_bytes() == bytes(8)
    assert not (tmp_path / "out/val").exists()


def test_the_split_sends_each_document_to_its_side(tmp_path, corpus, byte_tokenizer):
    texts = [f"document {number % 150}" for number in range(300)]  # every one twice
    options = EncodeOptions(val_fraction=0.2, seed=5, seq_length_hint=64)
    result = encode_corpus(corpus(*texts), byte_tokenizer, tmp_path / "out", options=options)
    train, held_out = open_dataset(tmp_path / "out"), open_dataset(tmp_path / "out/val")
    assert texts_of(train) == [text for text in texts if not is_validation(text, 5, 0.2)]
    assert texts_of(held_out) == [text for text in texts if is_validation(text, 5, 0.2)]
    assert not set(texts_of(train)) & set(texts_of(held_out))
    assert (result.train, result.validation) == (train.manifest, held_out.manifest)
    assert (train.manifest.split.part, held_out.manifest.split.part) == ("train", "validation")
    assert train.manifest.corpus_sha256 == held_out.manifest.corpus_sha256
    assert train.dataset_digest != held_out.dataset_digest
    assert train.manifest.total_documents + held_out.manifest.total_documents == 300
    assert held_out.manifest.seq_length_hint == 64


def test_the_same_corpus_gives_the_same_dataset_whatever_its_files(tmp_path, corpus, byte_tokenizer):
    texts = [f"document {number}" for number in range(300)]
    folder = tmp_path / "folder"
    folder.mkdir()
    for number, text in enumerate(texts):
        (folder / f"{number:03d}.txt").write_text(text)
    found = []
    for index, paths in enumerate((corpus(*texts), [folder], corpus(*texts))):
        out = tmp_path / f"out{index}"
        encode_corpus(paths, byte_tokenizer, out, options=EncodeOptions())
        found.append(
            [
                replace(open_dataset(folder).manifest, sources=(), elapsed_s=0.0)
                for folder in (out, out / "val")
            ]
        )
        assert open_dataset(out).manifest.sources[0].name == paths[0].name
    assert found[0] == found[1] == found[2]


def test_batches_do_not_show(tmp_path, corpus, byte_tokenizer, monkeypatch):
    texts = [f"document {number}" for number in range(50)]
    encode_corpus(corpus(*texts), byte_tokenizer, tmp_path / "one", options=WHOLE)
    monkeypatch.setattr(encode, "_BATCH_DOCUMENTS", 3)
    monkeypatch.setattr(encode, "_BATCH_CHARACTERS", 25)
    encode_corpus(corpus(*texts), byte_tokenizer, tmp_path / "two", options=WHOLE)
    assert open_dataset(tmp_path / "one").dataset_digest == open_dataset(tmp_path / "two").dataset_digest


def test_what_was_left_out_is_in_the_result_and_the_manifest(tmp_path, byte_tokenizer):
    source = tmp_path / "c.jsonl"
    source.write_text('{"content": "good"}\nbad\n{"content": ""}\n{"text": "x"}\n')
    options = EncodeOptions(val_fraction=0.0, on_bad="skip")
    result = encode_corpus([source], byte_tokenizer, tmp_path / "out", options=options)
    assert result.counts.num_skipped == 2
    assert result.train.bad["not_json"] == result.train.bad["field_missing"] == 1
    assert result.train.empty_documents == 1
    assert result.train.total_documents == 1
    assert (result.num_unknown, result.unknown_fraction) == (None, None)


def test_progress_runs_to_the_end(tmp_path, corpus, byte_tokenizer, monkeypatch):
    monkeypatch.setattr(encode, "_BATCH_DOCUMENTS", 10)
    seen = []
    paths = corpus(*["x" * 10] * 95)
    encode_corpus(
        paths, byte_tokenizer, tmp_path / "out", options=WHOLE, on_progress=lambda *step: seen.append(step)
    )
    assert len(seen) == 10
    assert seen == sorted(seen)
    assert seen[-1] == (paths[0].stat().st_size, paths[0].stat().st_size, 950)


class Fails:
    """A tokenizer that breaks in one way."""

    def __init__(self, tokenizer, **broken):
        self._tokenizer = tokenizer
        self._broken = broken

    def __getattr__(self, name):
        return self._broken[name] if name in self._broken else getattr(self._tokenizer, name)


def drop_spaces(texts):
    return [[byte for byte in text.encode() if byte != 32] for text in texts]


def fail(error, paths, tokenizer, out, options=WHOLE, **more):
    with pytest.raises(error) as caught:
        encode_corpus(paths, tokenizer, out, options=options, **more)
    return caught.value


def test_text_that_the_tokenizer_loses_is_an_error(tmp_path, corpus, byte_tokenizer):
    lossy = Fails(byte_tokenizer, encode_batch=drop_spaces)
    error = fail(RoundTripBroken, corpus("ab", "ab cd"), lossy, tmp_path / "out")
    assert error.position == 2
    assert error.origin.endswith(":2")
    assert not (tmp_path / "out").exists()


def test_text_lost_at_the_end_is_an_error_too(tmp_path, corpus, byte_tokenizer):
    short = Fails(byte_tokenizer, encode_batch=lambda texts: [list(text.encode())[:-1] for text in texts])
    assert fail(RoundTripBroken, corpus("ab"), short, tmp_path / "out").position == 1


@pytest.mark.parametrize("place", [0, AUDIT_FIRST - 1, AUDIT_EVERY, 4 * AUDIT_EVERY])
def test_the_sample_that_is_decoded_back_is_fixed(tmp_path, corpus, byte_tokenizer, place):
    texts = ["ab"] * (5 * AUDIT_EVERY)
    texts[place] = "a b"
    fail(RoundTripBroken, corpus(*texts), Fails(byte_tokenizer, encode_batch=drop_spaces), tmp_path / "out")


def test_the_size_of_the_sample_is_told(tmp_path, corpus, byte_tokenizer):
    result = encode_corpus(corpus(*["ab"] * 1000), byte_tokenizer, tmp_path / "out", options=WHOLE)
    assert result.num_round_trips == AUDIT_FIRST + 3  # 256, 512, 768


@pytest.mark.parametrize("bad_id", [257, -1, 2**32])
def test_an_id_outside_the_vocabulary_is_an_error(tmp_path, corpus, byte_tokenizer, bad_id):
    broken = Fails(byte_tokenizer, encode_batch=lambda texts: [[1, bad_id]], decode=lambda ids: "x")
    error = fail(TokenIdTooLarge, corpus("x"), broken, tmp_path / "out")
    assert (error.token_id, error.vocab_size) == (bad_id, 257)


@pytest.mark.parametrize(("unknown", "refused"), [(1, False), (2, True)])
def test_more_than_one_percent_unknown_is_an_error(tmp_path, corpus, byte_tokenizer, unknown, refused):
    tokenizer = Fails(byte_tokenizer, unknown_id=ord("?"))
    paths = corpus("?" * unknown + "x" * (100 - unknown))
    if refused:
        error = fail(UnknownTokens, paths, tokenizer, tmp_path / "out")
        assert (error.num_unknown, error.num_tokens) == (unknown, 100)
    else:
        result = encode_corpus(paths, tokenizer, tmp_path / "out", options=WHOLE)
        assert result.num_unknown == unknown
        assert result.unknown_fraction == unknown / 101


def test_a_separator_is_never_guessed(tmp_path, corpus, make_byte_tokenizer):
    without = make_byte_tokenizer(end_of_text_id=None)
    for policy in ("after", "between"):
        options = EncodeOptions(eos_policy=policy, val_fraction=0.0)
        assert fail(EndOfTextMissing, corpus("x"), without, tmp_path / "out", options).policy == policy
    assert not (tmp_path / "out").exists()
    options = EncodeOptions(eos_policy="none", val_fraction=0.0)
    assert encode_corpus(corpus("x"), without, tmp_path / "out", options=options).train.eos_token_id is None
    outside = make_byte_tokenizer(end_of_text_id=300)
    fail(TokenIdTooLarge, corpus("x"), outside, tmp_path / "out2")


def test_a_corpus_without_text_is_an_error(tmp_path, corpus, byte_tokenizer):
    error = fail(CorpusEmpty, corpus("", ""), byte_tokenizer, tmp_path / "out")
    assert (error.num_files, error.num_empty, error.num_skipped) == (1, 2, 0)


@pytest.mark.parametrize(("fraction", "counts"), [(1e-9, (20, 0)), (1 - 1e-9, (0, 20))])
def test_a_split_with_an_empty_side_is_an_error(tmp_path, corpus, byte_tokenizer, fraction, counts):
    options = EncodeOptions(val_fraction=fraction)
    error = fail(SplitEmpty, corpus(*map(str, range(20))), byte_tokenizer, tmp_path / "out", options)
    assert (error.num_train, error.num_validation) == counts


BAD_OPTIONS = [
    *[{"eos_policy": "before"}, {"shard_tokens": 0}, {"val_fraction": 1.0}, {"val_fraction": -0.1}],
    *[{"seq_length_hint": 0}, {"on_bad": "ignore"}],
]


@pytest.mark.parametrize("values", BAD_OPTIONS)
def test_a_bad_option_is_refused_before_anything_is_written(tmp_path, corpus, byte_tokenizer, values):
    fail(BadOption, corpus("x"), byte_tokenizer, tmp_path / "out", EncodeOptions(**values))
    assert not (tmp_path / "out").exists()


def test_a_complete_dataset_is_replaced_only_by_force(tmp_path, corpus, byte_tokenizer):
    out = tmp_path / "out"
    many = EncodeOptions(val_fraction=0.3, shard_tokens=10)
    encode_corpus(corpus(*map(str, range(50))), byte_tokenizer, out, options=many)
    before = open_dataset(out).dataset_digest
    (out / "notes.md").write_text("mine")
    fail(OutputExists, corpus("x"), byte_tokenizer, out)
    assert open_dataset(out).dataset_digest == before
    encode_corpus(corpus("x"), byte_tokenizer, out, options=WHOLE, force=True)
    assert texts_of(open_dataset(out)) == ["x"]
    assert sorted(path.name for path in out.iterdir()) == [
        "documents.bin",
        "manifest.json",
        "notes.md",
        "shard-00000.bin",
    ]


def test_a_strangers_folder_is_refused_and_force_takes_nothing_from_it(tmp_path, corpus, byte_tokenizer):
    out = tmp_path / "out"
    (out / "val").mkdir(parents=True)
    strangers = ["photo.bin", "val/manifest.json", "val/shard-00000.bin"]
    for name in strangers:
        (out / name).write_text("{}")
    fail(OutputExists, corpus("x"), byte_tokenizer, out)
    encode_corpus(corpus("x"), byte_tokenizer, out, options=WHOLE, force=True)
    assert all((out / name).read_text() == "{}" for name in strangers)


def test_an_output_that_is_a_file_is_refused(tmp_path, corpus, byte_tokenizer):
    (tmp_path / "out").write_text("a file")
    fail(CannotWrite, corpus("x"), byte_tokenizer, tmp_path / "out", force=True)
    assert (tmp_path / "out").read_text() == "a file"


def test_the_output_may_not_hold_the_corpus(tmp_path, byte_tokenizer):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/shard-00000.bin").write_text("a text with the name of a shard")
    fail(BadOption, [tmp_path / "in"], byte_tokenizer, tmp_path / "in", force=True)
    fail(BadOption, [tmp_path], byte_tokenizer, tmp_path / "in", force=True)
    assert (tmp_path / "in/shard-00000.bin").is_file()


@pytest.mark.parametrize("linked", ["a file", "its folder"])
def test_the_output_may_not_hold_what_the_corpus_links_to(tmp_path, byte_tokenizer, linked):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/text.txt").write_text("a text")
    (tmp_path / "in").mkdir()
    target = tmp_path / "out" / ("text.txt" if linked == "a file" else "")
    link = tmp_path / "in/link"
    link.symlink_to(target)
    named = link if linked == "a file" else link / "text.txt"
    fail(BadOption, [named], byte_tokenizer, tmp_path / "out", force=True)
    assert (tmp_path / "out/text.txt").read_text() == "a text"


def test_an_unfinished_dataset_is_refused_by_readers_and_replaced_by_force(
    tmp_path, corpus, byte_tokenizer, monkeypatch
):
    monkeypatch.setattr(encode, "discard_unfinished", lambda *folders: None)  # as if it had been killed
    out = tmp_path / "out"
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"content": "x"}\n' * 4000 + "bad\n")
    options = EncodeOptions(shard_tokens=100, val_fraction=0.3)
    fail(RecordNotJson, [broken], byte_tokenizer, out, options)
    assert len(list(out.glob("shard-*.bin"))) > 5 or len(list(out.glob("val/shard-*.bin"))) > 5
    for folder in (out, out / "val"):
        with pytest.raises(DatasetUnfinished):
            open_dataset(folder)
    encode_corpus(corpus("x"), byte_tokenizer, out, options=WHOLE, force=True)
    assert open_dataset(out).total_tokens == 2
    assert not (out / "val").exists()


def test_a_failure_leaves_nothing(tmp_path, corpus, byte_tokenizer):
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"content": "x"}\n' * 2000 + "bad\n")
    before = sorted(tmp_path.rglob("*"))
    fail(RecordNotJson, [broken], byte_tokenizer, tmp_path / "new" / "out", EncodeOptions(val_fraction=0.3))
    assert sorted(tmp_path.rglob("*")) == [*before, tmp_path / "new"]


def test_a_dataset_that_could_not_even_be_claimed_is_not_removed(
    tmp_path, corpus, byte_tokenizer, monkeypatch
):
    out = tmp_path / "out"
    made = encode_corpus(corpus("x"), byte_tokenizer, out, options=WHOLE).train

    def full(*arguments):
        raise CannotWrite(path=str(out), reason="no space")

    monkeypatch.setattr("apr.data.writer.write_in_progress", full)
    fail(CannotWrite, corpus("y"), byte_tokenizer, out, force=True)
    assert open_dataset(out).manifest == made


def test_an_interruption_leaves_nothing(tmp_path, corpus, byte_tokenizer, monkeypatch):
    monkeypatch.setattr(encode, "_BATCH_DOCUMENTS", 1)

    def interrupt(done, total, tokens):
        if tokens > 3:
            os.kill(os.getpid(), signal.SIGINT)

    paths = corpus(*"abcdefgh")
    error = fail(Interrupted, paths, byte_tokenizer, tmp_path / "out", on_progress=interrupt)
    assert error.exit_code == 2
    assert not (tmp_path / "out").exists()
    encode_corpus(paths, byte_tokenizer, tmp_path / "out", options=WHOLE)
    assert texts_of(open_dataset(tmp_path / "out")) == list("abcdefgh")


@pytest.mark.parametrize("folder", ["out", "out/val"])
def test_a_failure_while_sealing_leaves_nothing(tmp_path, corpus, byte_tokenizer, monkeypatch, folder):
    real = Part.seal

    def seal(part, **facts):
        if part.folder == tmp_path / folder:
            raise CannotWrite(path=str(part.folder), reason="no space")
        return real(part, **facts)

    monkeypatch.setattr(Part, "seal", seal)
    options = EncodeOptions(val_fraction=0.3)
    fail(CannotWrite, corpus(*map(str, range(20))), byte_tokenizer, tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_an_error_with_an_id(tmp_path, corpus, byte_tokenizer, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("apr.data.hashed_file.os.fsync", full)
    error = fail(AprError, corpus("x"), byte_tokenizer, tmp_path / "out")
    assert error.id == "APR103"


def test_a_real_tokenizer_goes_through(tmp_path, corpus):
    engine = tokenizers.Tokenizer(tokenizers.models.BPE())
    engine.normalizer = tokenizers.normalizers.NFC()
    engine.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [f"def f{number}(x):\n    return x + {number}\r\n# e\u0301\n" for number in range(100)]
    engine.train_from_iterator(texts, trainer)
    definition = make_definition(engine.to_str(), bos_token_id=None, eos_token_id=None, source="test")
    tokenizer = TextTokenizer(definition)
    result = encode_corpus(
        corpus(*texts), tokenizer, tmp_path / "out", options=EncodeOptions(val_fraction=0.1)
    )
    dataset = open_dataset(tmp_path / "out")
    assert dataset.manifest.normalization == "NFC"
    assert dataset.manifest.tokenizer_sha256 == definition.sha256
    assert dataset.manifest.vocab_size == tokenizer.max_id + 1 == 300
    assert (
        result.train.eos_token_id == definition.end_of_text_id == dataset.slice(0, dataset.total_tokens)[-1]
    )
    kept = [text.replace("e\u0301", "\u00e9") for text in texts if not is_validation(text, 42, 0.1)]
    starts = [*dataset.document_starts.tolist(), dataset.total_tokens]
    decoded = [tokenizer.decode(dataset.slice(a, b - 1).tolist()) for a, b in pairwise(starts)]
    assert decoded == kept
    assert np.bincount(dataset.slice(0, dataset.total_tokens)).sum() == dataset.token_counts().sum()
