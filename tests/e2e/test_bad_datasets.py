"""Tokenizers, shards and corpora that do not fit, or are not what they were, are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from apr.base.files import sha256_bytes
from apr.tokenizer.definition import save_definition
from e2e.refusal import call, refused, train
from tiny import CONFIG, make_corpus, make_model, make_shards, make_tokenizer, make_weights, read_json, words


def rewrite_manifest(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**read_json(path), **changes}))


def reseal(folder: Path) -> None:
    """Sign the first shard as it now is, as whoever edited it on purpose would."""
    raw = (folder / "shard-00000.bin").read_bytes()
    ids = np.frombuffer(raw, "<u4")
    shards = [{"name": "shard-00000.bin", "sha256": sha256_bytes(raw), "num_tokens": len(ids)}]
    rewrite_manifest(folder, shards=shards, total_tokens=len(ids), shard_count=1)


def large_id(folder: Path) -> None:
    ids = np.fromfile(folder / "shard-00000.bin", "<u4")
    ids[7] = 320
    ids.tofile(folder / "shard-00000.bin")
    reseal(folder)


def edit_shard(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "shard-00000.bin"
        path.write_bytes(change(path.read_bytes()))

    return apply


def drop(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


SHARDS: dict[str, tuple[Callable[[Path], None], str, dict[str, object]]] = {
    "an id >= vocab_size": (large_id, "APR445", {"token_id": 320, "position": 7, "vocab_size": 320}),
    "an odd size": (edit_shard(lambda raw: raw[:-3]), "APR441", {"token_bytes": 4}),
    "a shard cut off": (edit_shard(lambda raw: raw[:-4]), "APR442", {"path": "shard-00000.bin"}),
    "a changed id": (edit_shard(lambda raw: raw[:-4] + b"\1\0\0\0"), "APR443", {"path": "shard-00000.bin"}),
    "a missing shard": (drop("shard-00000.bin"), "APR440", {"path": "shard-00000.bin"}),
    "a shard too many": (lambda f: (f / "shard-00009.bin").write_bytes(b""), "APR444", {"path": "shard-00009"}),
    "no manifest": (drop("manifest.json"), "APR435", {}),
    "a cut manifest": (lambda f: (f / "manifest.json").write_text('{"status": "comp'), "APR105", {}),
    "a manifest that is a list": (lambda f: (f / "manifest.json").write_text("[]"), "APR105", {}),
    "an unfinished dataset": (lambda f: rewrite_manifest(f, status="in progress"), "APR436", {}),
    "an unknown field": (lambda f: rewrite_manifest(f, tokens=1), "APR438", {"field": "tokens"}),
    "a wrong sum": (lambda f: rewrite_manifest(f, total_tokens=1), "APR439", {"field": "total_tokens"}),
    "a vocabulary too small": (lambda f: rewrite_manifest(f, vocab_size=10), "APR439", {"field": "max_token_id"}),
    "no document offsets": (drop("documents.bin"), "APR446", {"reason": "missing"}),
    "no validation": (lambda f: shutil.rmtree(f / "val"), "APR625", {"expected": "val"}),
}  # fmt: skip


@pytest.mark.parametrize("defect", SHARDS)
def test_shards_that_are_not_their_manifest(
    tmp_path: Path, tiny_apr: Path, tiny_shards: Path, defect: str
) -> None:
    spoil, error_id, says = SHARDS[defect]
    shards = tmp_path / "shards"
    shutil.copytree(tiny_shards, shards)
    spoil(shards)
    arguments = train(tiny_apr, shards, tmp_path / "run")
    refused(*arguments, error_id=error_id, says=says, folder=tmp_path)
    if defect != "no validation":  # the other reader of shards
        refused("eval", tiny_apr, "--dataset", shards, error_id=error_id, says=says, folder=tmp_path)


@pytest.fixture(scope="module")
def other_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of a tokenizer with fewer entries, whose ids all exist in the model."""
    return make_shards(tmp_path_factory.mktemp("other") / "shards", make_tokenizer(300))


def test_shards_of_another_tokenizer(tmp_path: Path, tiny_apr: Path, other_shards: Path) -> None:
    says = {"found": make_tokenizer(300).sha256[:12], "expected": make_tokenizer().sha256[:12]}
    arguments = train(tiny_apr, other_shards, tmp_path / "run")
    refused(*arguments, error_id="APR622", says=says, folder=tmp_path)
    refused("eval", tiny_apr, "--dataset", other_shards, error_id="APR622", says=says, folder=tmp_path)


def test_a_tokenizer_that_did_not_make_the_shards(tmp_path: Path, tiny_apr: Path, tiny_shards: Path) -> None:
    save_definition(make_tokenizer(300), tmp_path / "tokenizer")
    arguments = train(tiny_apr, tiny_shards, tmp_path / "run", "--tokenizer", tmp_path / "tokenizer")
    refused(*arguments, error_id="APR622", folder=tmp_path)


def test_a_tokenizer_larger_than_the_model(tmp_path: Path, tiny_apr: Path) -> None:
    """FALSIFY-APR-PRETRAIN-ARCH-010."""
    large = make_tokenizer(400)
    save_definition(large, tmp_path / "tokenizer")
    shards = make_shards(tmp_path / "shards", large)
    arguments = train(tiny_apr, shards, tmp_path / "run", "--tokenizer", tmp_path / "tokenizer")
    says = {"tokenizer_size": 400, "limit": "320"}
    refused(*arguments, error_id="APR621", says=says, folder=tmp_path)


def test_a_tokenizer_smaller_than_a_new_model(tmp_path: Path, other_shards: Path) -> None:
    """Without --init the vocabularies must be equal; FALSIFY-APR-PRETRAIN-ARCH-010."""
    (tmp_path / "arch.json").write_text(json.dumps(CONFIG.to_dict()))
    arguments = train(None, other_shards, tmp_path / "run", "--arch", tmp_path / "arch.json")[3:]
    says = {"tokenizer_size": 300, "limit": "320"}
    refused("pretrain", *arguments, error_id="APR621", says=says, folder=tmp_path)


def test_an_id_that_the_model_has_no_row_for(tmp_path: Path) -> None:
    """The tokenizer's digest is right and its entries fit, but the shards hold ids above them."""
    small = replace(CONFIG, vocab_size=300)
    tokenizer = make_tokenizer(300)
    model = make_model(tmp_path / "model.apr", small, tokenizer=tokenizer, weights=make_weights(small))
    shards = make_shards(tmp_path / "shards")
    for folder in (shards, shards / "val"):
        rewrite_manifest(folder, tokenizer_sha256=tokenizer.sha256)
    says = {"found": 319, "limit": 300}
    arguments = train(model, shards, tmp_path / "run")
    refused(*arguments, error_id="APR623", says=says, folder=tmp_path)
    refused("eval", model, "--dataset", shards, error_id="APR623", says=says, folder=tmp_path)


@pytest.mark.parametrize("mode", [(), ("--dry-run",), ("--allow-shard-cycle",)])
def test_a_corpus_shorter_than_one_window(tmp_path: Path, tiny_apr: Path, mode: tuple[str, ...]) -> None:
    shards = make_shards(tmp_path / "shards", documents=8)
    held = read_json(shards / "val" / "manifest.json")["total_tokens"]
    length = held  # the validation part is the shorter one, and one token too short
    assert held < min(read_json(shards / "manifest.json")["total_tokens"], 512)
    arguments = train(tiny_apr, shards, tmp_path / "run", "--num-steps", 1, "--batch-size", 1, *mode)
    says = {"num_tokens": held, "seq_length": length, "folder": shards / "val"}
    refused(*arguments, "--seq-length", length, error_id="APR447", says=says, folder=tmp_path)


def test_a_run_longer_than_the_corpus(tmp_path: Path, tiny_apr: Path, tiny_shards: Path) -> None:
    arguments = train(tiny_apr, tiny_shards, tmp_path / "run", "--num-steps", 10_000)
    says = {"num_steps": 10_000, "needed": 20_000}
    refused(*arguments, error_id="APR605", says=says, folder=tmp_path)


def text(content: bytes, name: str = "corpus.txt") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def empty_folder(folder: Path) -> Path:
    (folder / "corpus").mkdir()
    return folder / "corpus"


def loop(folder: Path) -> Path:
    (folder / "corpus").symlink_to(folder / "corpus")
    return folder / "corpus"


def loop_inside(folder: Path) -> Path:
    corpus = make_corpus(folder / "corpus", documents=4)
    (corpus / "zz.txt").symlink_to(corpus / "zz.txt")
    return corpus


GOOD_LINE = json.dumps({"content": words(1)}).encode() + b"\n"
CORPORA: dict[str, tuple[Callable[[Path], Path], str, dict[str, object]]] = {
    "missing": (lambda folder: folder / "nowhere", "APR421", {"path": "nowhere"}),
    "an empty folder": (empty_folder, "APR422", {"glob": "**/*"}),
    "an empty file": (text(b""), "APR429", {"num_files": 1, "num_empty": 1}),
    "blank lines": (text(b"\n \n\n", "c.jsonl"), "APR429", {"num_empty": 3}),
    "bad UTF-8": (text(b"abc\xff\xfe"), "APR423", {"byte_offset": 3}),
    "bad UTF-8 in a line": (text(GOOD_LINE + b'{"content": "\xff"}\n', "c.jsonl"), "APR423", {"place": "c.jsonl:2"}),
    "a bad JSON line": (text(GOOD_LINE + b'{"content": "cut o', "c.jsonl"), "APR424", {"line": 2}),
    "a line that is a number": (text(GOOD_LINE + b"12\n", "c.jsonl"), "APR424", {"line": 2}),
    "a line nested beyond reason": (text(b"[" * 100_000, "c.jsonl"), "APR424", {"line": 1}),
    "a missing field": (text(b'{"text": "abc"}\n', "c.jsonl"), "APR425", {"field": "content", "found": "text"}),
    "a field that is a number": (text(b'{"content": 3}\n', "c.jsonl"), "APR426", {"field": "content"}),
    "half a surrogate pair": (text(b'{"content": "\\ud800"}\n', "c.jsonl"), "APR426", {"line": 1}),
    "a broken gzip": (text(b"\x1f\x8b\x08no", "c.txt.gz"), "APR427", {}),
    "a broken zstd": (text(b"\x28\xb5\x2f\xfdno", "c.txt.zst"), "APR427", {}),
    "an archive": (text(b"PK", "c.zip"), "APR002", {"option": "c.zip"}),
    "one document and a split": (text(words(1).encode()), "APR430", {"num_validation": 0}),
    "a loop": (loop, "APR421", {"path": "corpus"}),
    "a loop in a folder": (loop_inside, "APR102", {"path": "zz.txt"}),
    "a device": (lambda folder: Path("/dev/null"), "APR429", {}),
}  # fmt: skip


@pytest.mark.parametrize("defect", CORPORA)
def test_a_corpus_that_cannot_be_encoded(tmp_path: Path, tiny_apr: Path, defect: str) -> None:
    make, error_id, says = CORPORA[defect]
    corpus = make(tmp_path)
    arguments = ("tokenize", "encode-corpus", "--corpus", corpus, "--tokenizer", tiny_apr)
    refused(*arguments, "-o", tmp_path / "shards", error_id=error_id, says=says, folder=tmp_path)


@pytest.mark.parametrize(
    "defect", ["an empty file", "bad UTF-8", "a bad JSON line", "missing", "an empty folder"]
)
def test_a_text_that_cannot_be_evaluated(tmp_path: Path, tiny_apr: Path, defect: str) -> None:
    make, error_id, says = CORPORA[defect]
    refused("eval", tiny_apr, "--text", make(tmp_path), error_id=error_id, says=says, folder=tmp_path)


def test_bad_records_can_be_skipped_and_are_counted(tmp_path: Path, tiny_apr: Path) -> None:
    """The advice of the refusals above works."""
    lines = b"".join(json.dumps({"content": words(i)}).encode() + b"\n" for i in range(30))
    corpus = text(lines + b"12\n" + b'{"content": "\xff"}\n', "c.jsonl")(tmp_path)
    arguments = ("tokenize", "encode-corpus", "--corpus", corpus, "--tokenizer", tiny_apr, "--on-bad", "skip")
    done = call(*arguments, "--val-fraction", 0.2, "-o", tmp_path / "shards", "--format", "json")
    assert (done.code, done.json["skipped"]) == (0, 2)


TOKENIZERS: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "APR101"),
    "empty": (b"", "APR401"),
    "cut off": (b'{"model": {"type": "BPE", "vo', "APR401"),
    "no tokenizer": (b'{"a": 1}', "APR401"),
    "a list": (b"[]", "APR401"),
    "not UTF-8": (b"\xff\xfe{}", "APR401"),
}


@pytest.mark.parametrize("defect", TOKENIZERS)
@pytest.mark.parametrize("command", ["pretrain", "encode", "import"])
def test_a_tokenizer_that_cannot_be_read(
    tmp_path: Path, tiny_apr: Path, tiny_shards: Path, defect: str, command: str
) -> None:
    content, error_id = TOKENIZERS[defect]
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    (tmp_path / "c.txt").write_text(words(1))
    out = tmp_path / "out"
    arguments: dict[str, tuple[object, ...]] = {
        "pretrain": train(tiny_apr, tiny_shards, out, "--tokenizer", path),
        "encode": (
            "tokenize",
            "encode-corpus",
            "--corpus",
            tmp_path / "c.txt",
            "--tokenizer",
            path,
            "-o",
            out,
        ),
        "import": ("tokenize", "import-hf", path, "-o", out),
    }
    refused(*arguments[command], error_id=error_id, folder=tmp_path)


def test_a_named_separator_that_the_tokenizer_has_not(tmp_path: Path, tiny_apr: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", documents=4)
    arguments = ("tokenize", "encode-corpus", "--corpus", corpus, "--tokenizer", tiny_apr)
    more = ("--eos-token", "<|end|>", "-o", tmp_path / "shards")
    refused(*arguments, *more, error_id="APR404", says={"token": "<|end|>"}, folder=tmp_path)


def test_a_dataset_that_is_there_is_not_replaced(tmp_path: Path, tiny_apr: Path, tiny_shards: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", documents=4)
    shutil.copytree(tiny_shards, tmp_path / "shards")
    arguments = ("tokenize", "encode-corpus", "--corpus", corpus, "--tokenizer", tiny_apr)
    refused(*arguments, "-o", tmp_path / "shards", error_id="APR104", folder=tmp_path)
