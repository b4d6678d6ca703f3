"""Whichever engine encodes, the dataset is the same; one that turns out to differ leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from apr.base.errors import Interrupted
from apr.cli.tokenize_commands import encode_corpus_command
from apr.data import encode as encode_module
from apr.data.errors import EncodingDiffers, PartForeign
from apr.data.manifest import read_manifest
from apr.tokenizer import engine_choice
from apr.tokenizer.audited import AUDITED_SHARE, audited
from apr.tokenizer.definition import save_definition
from apr.tokenizer.engine_choice import ENGINES
from apr.tokenizer.errors import EngineDiffers, EngineRefuses
from apr.workflows import engines
from apr.workflows.tokenizing import encode, merge
from command import Outcome, run_apr
from tiny import make_tokenizer, words
from tokenizer.engines import Defective

OPTIONS = {"val_fraction": 0.25}


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    save_definition(make_tokenizer(), tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number:03}.txt").write_text(words(number))
    return folder


@pytest.fixture(autouse=True)
def no_corpus_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "SMALL_CORPUS_BYTES", 0)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch, corpus: Path) -> str:
    """An engine that passes the suite, and fails over the one document of the corpus that is sampled."""
    texts = [path.read_text() for path in sorted(corpus.iterdir())]
    wrong = texts[audited(texts)[0]]
    planted_engines = {"fastokens": lambda reference: Defective(reference, lambda text: text == wrong)}
    monkeypatch.setattr(engine_choice, "FAST_ENGINES", planted_engines)
    return wrong


def shards(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.bin")}


def test_the_dataset_does_not_depend_on_the_engine(corpus: Path, tokenizer: Path, tmp_path: Path) -> None:
    made = {name: encode([corpus], tokenizer, tmp_path / name, engine=name, **OPTIONS) for name in ENGINES}
    names = {name: result["engine"]["name"] for name, result in made.items()}
    assert names == {"auto": "fastokens", "hf": "hf", "fastokens": "fastokens"}
    assert shards(tmp_path / "auto") == shards(tmp_path / "fastokens") == shards(tmp_path / "hf")
    assert len({result["train"]["digest"] for result in made.values()}) == 1


def test_the_manifest_says_what_encoded(corpus: Path, tokenizer: Path, tmp_path: Path) -> None:
    found = encode([corpus], tokenizer, tmp_path / "out", **OPTIONS)
    for part in (tmp_path / "out", tmp_path / "out/val"):
        record = read_manifest(part).engine
        assert record is not None
        assert (record["name"], record["audited_share"]) == ("fastokens", AUDITED_SHARE)
        assert found["engine"]["version"] == record["version"]
    assert 1 <= found["engine"]["audited_documents"] <= 5


def test_a_small_corpus_is_the_references(
    corpus: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "SMALL_CORPUS_BYTES", 1 << 20)
    found = encode([corpus], tokenizer, tmp_path / "small", **OPTIONS)
    assert (found["engine"]["name"], found["engine"]["passed_over"]) == ("hf", None)
    named = encode([corpus], tokenizer, tmp_path / "named", engine="fastokens", **OPTIONS)
    assert named["engine"]["name"] == "fastokens"


@pytest.mark.usefixtures("planted")
def test_a_difference_in_the_corpus_stops_the_named_engine(
    corpus: Path, tokenizer: Path, tmp_path: Path
) -> None:
    with pytest.raises(EngineDiffers) as caught:
        encode([corpus], tokenizer, tmp_path / "out", engine="fastokens", **OPTIONS)
    assert caught.value.where == "a document of the corpus"
    assert shards(tmp_path / "out") == {}


@pytest.mark.usefixtures("planted")
def test_auto_says_so_and_starts_again_with_the_reference(
    corpus: Path, tokenizer: Path, tmp_path: Path
) -> None:
    notes: list[str] = []
    found = encode([corpus], tokenizer, tmp_path / "auto", on_note=notes.append, **OPTIONS)
    right = encode([corpus], tokenizer, tmp_path / "hf", engine="hf", **OPTIONS)
    assert (found["engine"]["name"], found["engine"]["audited_documents"]) == ("hf", None)
    assert EngineDiffers.id in found["engine"]["passed_over"]
    assert len(notes) == 1
    assert shards(tmp_path / "auto") == shards(tmp_path / "hf")
    assert found["train"]["digest"] == right["train"]["digest"]


@pytest.mark.usefixtures("planted")
def test_a_complete_dataset_is_replaced_by_the_second_attempt(
    corpus: Path, tokenizer: Path, tmp_path: Path
) -> None:
    encode([corpus], tokenizer, tmp_path / "out", engine="hf", val_fraction=0.5)
    found = encode([corpus], tokenizer, tmp_path / "out", force=True, **OPTIONS)
    right = encode([corpus], tokenizer, tmp_path / "hf", engine="hf", **OPTIONS)
    assert found["train"]["digest"] == right["train"]["digest"]


def test_an_engine_that_fails_in_the_midst_is_given_up(
    corpus: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fails(Defective):
        def encode_batch(self, texts: Any) -> Any:
            if any("the river" in text for text in texts):
                raise EngineRefuses(engine="defective", what="a text", reason="test")
            return super().encode_batch(texts)

    planted_engines = {"fastokens": lambda reference: Fails(reference, lambda text: False)}
    monkeypatch.setattr(engine_choice, "FAST_ENGINES", planted_engines)
    assert encode([corpus], tokenizer, tmp_path / "auto", **OPTIONS)["engine"]["name"] == "hf"
    with pytest.raises(EngineRefuses):
        encode([corpus], tokenizer, tmp_path / "named", engine="fastokens", **OPTIONS)


def test_an_unfinished_encoding_goes_on_with_its_own_engine_only(
    corpus: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode_module, "_JOURNAL_EVERY_S", 0.0)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        encode([corpus], tokenizer, tmp_path / "out", on_progress=stop, **OPTIONS)
    with pytest.raises(EncodingDiffers) as caught:
        encode([corpus], tokenizer, tmp_path / "out", engine="hf", **OPTIONS)
    assert caught.value.field == "--engine"
    assert encode([corpus], tokenizer, tmp_path / "out", **OPTIONS)["engine"]["name"] == "fastokens"


@pytest.mark.usefixtures("planted")
def test_auto_goes_on_with_the_reference_that_it_fell_back_to(
    corpus: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode_module, "_JOURNAL_EVERY_S", 0.0)
    notes: list[str] = []

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        encode([corpus], tokenizer, tmp_path / "out", on_progress=stop, on_note=notes.append, **OPTIONS)
    assert "beginning again" in notes[0]
    found = encode([corpus], tokenizer, tmp_path / "out", on_note=notes.append, **OPTIONS)
    right = encode([corpus], tokenizer, tmp_path / "hf", engine="hf", **OPTIONS)
    assert len(notes) == 2
    assert found["engine"]["name"] == "hf"
    assert EncodingDiffers.id in found["engine"]["passed_over"]
    assert found["train"]["digest"] == right["train"]["digest"]


def test_parts_by_two_engines_are_not_merged(corpus: Path, tokenizer: Path, tmp_path: Path) -> None:
    for part, engine in (("1/2", "hf"), ("2/2", "fastokens")):
        found = encode([corpus], tokenizer, tmp_path / part[0], part=part, engine=engine, **OPTIONS)
        assert found["engine"]["name"] == engine
    with pytest.raises(PartForeign) as caught:
        merge([tmp_path / "1", tmp_path / "2"], tmp_path / "out")
    assert caught.value.field == "--engine"
    encode([corpus], tokenizer, tmp_path / "1", part="1/2", engine="fastokens", force=True, **OPTIONS)
    merged = merge([tmp_path / "1", tmp_path / "2"], tmp_path / "out")
    assert merged["engine"]["name"] == "fastokens"
    assert shards_of_side(tmp_path / "out") == shards_of_side(whole(corpus, tokenizer, tmp_path))


def shards_of_side(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("shard-*.bin"))]


def whole(corpus: Path, tokenizer: Path, tmp_path: Path) -> Path:
    encode([corpus], tokenizer, tmp_path / "whole", engine="hf", **OPTIONS)
    return tmp_path / "whole"


def test_the_command_offers_every_engine() -> None:
    option = next(option for option in encode_corpus_command.params if option.name == "engine")
    assert option.type.to_info_dict()["choices"] == ENGINES


def test_the_command_says_what_encoded(corpus: Path, tokenizer: Path, tmp_path: Path) -> None:
    def run(out: str, *more: str, **variables: str) -> Outcome:
        paths = ("--corpus", corpus, "--tokenizer", tokenizer, "-o", tmp_path / out)
        env = {**os.environ, **variables}
        return run_apr("tokenize", "encode-corpus", *paths, *more, "--format", "json", env=env)

    many = run("many", "--engine", "fastokens")
    assert many.code == 0, many.stderr
    assert many.json["engine"]["name"] == "fastokens"
    one = run("one", "--engine", "fastokens", FASTOKENS_BPE_THREADS="1", RAYON_NUM_THREADS="1")
    assert one.json["train"]["digest"] == many.json["train"]["digest"]
    assert shards(tmp_path / "one") == shards(tmp_path / "many")
    refused = run("none", "--engine", "fastoken")
    assert (refused.code, refused.error_id) == (2, "APR005")
