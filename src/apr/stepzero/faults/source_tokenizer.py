"""Faults of a source folder that lie in its tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from apr.stepzero.faults.fault import Fault
from apr.stepzero.faults.folders import (
    edit_config,
    read_config,
    read_json,
    replace_by_pointer,
    write_bytes,
    write_json,
)
from apr.stepzero.faults.planting import source_fault

FILE = "tokenizer.json"
_CONFIG_FILE = "tokenizer_config.json"
# Frequent words in the spellings that vocabularies have, and tokens that no text is likely to hold.
_FREQUENT = ("\u0120the", "\u2581the")
_BREAKS = ("\u010a", "<0x0A>")
_RARE = ("\u0100", "<0x00>")
_STARTS = ("\u0120", "\u2581")  # of a word, with the space before it


def _edit(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        document = read_json(folder / FILE)
        change(document)
        write_json(folder / FILE, document)

    return edit


def _word_and_break(document: dict[str, Any]) -> tuple[str, str]:
    """Two tokens that text is full of: a frequent word, or else the first that is part of no longer one; a line break."""
    vocab, merges = document["model"]["vocab"], document["model"]["merges"]
    pieces = {piece for merge in merges for piece in (merge.split(" ") if isinstance(merge, str) else merge)}
    whole = sorted((t for t in vocab if t.startswith(_STARTS) and t not in pieces), key=vocab.__getitem__)
    word = next(token for token in (*_FREQUENT, *whole) if token in vocab)
    return word, next(token for token in _BREAKS if token in vocab)


def _ids_exchanged(document: dict[str, Any]) -> None:
    vocab = document["model"]["vocab"]
    one, other = _word_and_break(document)
    vocab[one], vocab[other] = vocab[other], vocab[one]


def _one_id(document: dict[str, Any]) -> None:
    vocab = document["model"]["vocab"]
    one, other = _word_and_break(document)
    vocab[one] = vocab[other]


def _merge_missing(document: dict[str, Any]) -> None:
    del document["model"]["merges"][0]


def _other_vocabulary(document: dict[str, Any]) -> None:
    # The same tokens in another order, as a second training of the same size would have them.
    kept = {entry["content"] for entry in document["added_tokens"]}
    vocab = document["model"]["vocab"]
    tokens = [token for token in vocab if token not in kept]
    ids = [vocab[token] for token in tokens]
    vocab.update(zip(tokens, ids[1:] + ids[:1], strict=True))


def _spaces_lost(document: dict[str, Any]) -> None:
    before = document.get("pre_tokenizer")
    steps = before["pretokenizers"] if before and before["type"] == "Sequence" else [before] if before else []
    document["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{"type": "WhitespaceSplit"}, *steps],
    }


def _token_beyond(folder: Path) -> None:
    document = read_json(folder / FILE)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    # Contiguous ids, as the engine counts on: from the vocabulary's end to one past the last row.
    known = {entry["id"] for entry in document["added_tokens"]} | set(document["model"]["vocab"].values())
    for token_id in range(max(known) + 1, read_config(folder)["vocab_size"] + 1):
        document["added_tokens"].append({"id": token_id, "content": f"<|extra_{token_id}|>", **flags})
    write_json(folder / FILE, document)


def _added_tokens_lost(folder: Path) -> None:
    # tokenizer_config.json goes on listing them, as the published one does.
    document = read_json(folder / FILE)
    lost, document["added_tokens"] = document["added_tokens"], []
    for entry in lost:
        document["model"]["vocab"].pop(entry["content"], None)
    listed = {str(entry["id"]): {k: v for k, v in entry.items() if k != "id"} for entry in lost}
    write_json(folder / FILE, document)
    write_json(folder / _CONFIG_FILE, read_json(folder / _CONFIG_FILE) | {"added_tokens_decoder": listed})


def _end_unknown(folder: Path) -> None:
    values = read_json(folder / _CONFIG_FILE) | {"eos_token": "<|end_of_another_model|>"}
    write_json(folder / _CONFIG_FILE, values)


def _end_contradicted(folder: Path) -> None:
    # config.json names the id that the tokenizer ended with so far, and tokenizer_config.json now another token.
    document, values = read_json(folder / FILE), read_json(folder / _CONFIG_FILE)
    known = document["model"]["vocab"] | {entry["content"]: entry["id"] for entry in document["added_tokens"]}
    before = values.get("eos_token")
    before = before["content"] if isinstance(before, dict) else before
    added = [entry["content"] for entry in document["added_tokens"]]
    other = next(token for token in (*added, *_RARE, *known) if token in known and token != before)
    write_json(folder / _CONFIG_FILE, values | {"eos_token": other})
    edit_config(folder, eos_token_id=known.get(before, known[_word_and_break(document)[0]]))


def _cut_off(folder: Path) -> None:
    content = (folder / FILE).read_bytes()
    write_bytes(folder / FILE, content[: len(content) // 2])


_fault = partial(source_fault, "tokenizer")
_trust = partial(source_fault, "trust")
TOKENIZER_FAULTS: tuple[Fault, ...] = (
    _trust(
        "token-ids-exchanged",
        "a word and the line break of tokenizer.json had each other's ids",
        _edit(_ids_exchanged),
        *("S-16", "S-18"),
        quick=True,
    ),
    _trust(
        "tokenizer-gone",
        "tokenizer.json had not been copied",
        lambda folder: (folder / FILE).unlink(),
        *("S-82", "S-92"),
    ),
    _trust("merge-missing", "the first merge of tokenizer.json was missing", _edit(_merge_missing), "S-18"),
    _trust(
        "other-tokenizer",
        "tokenizer.json came from another training of the same size",
        _edit(_other_vocabulary),
        *("S-16", "S-18"),
    ),
    _trust(
        "spaces-lost",
        "tokenizer.json split a text at its spaces and lost them",
        _edit(_spaces_lost),
        "S-22",
    ),
    _fault(
        "token-beyond-embedding",
        "tokenizer.json had a token that the embedding has no row for",
        _token_beyond,
        "S-20",
        quick=True,
    ),
    _fault("one-id-for-two", "two tokens of tokenizer.json had one id", _edit(_one_id), "S-20"),
    _fault(
        "added-tokens-lost",
        "the added tokens were missing from tokenizer.json",
        _added_tokens_lost,
        "S-19",
    ),
    _fault(
        "end-token-unknown", "tokenizer_config.json named an end token of another model", _end_unknown, "S-19"
    ),
    _fault(
        "end-token-contradicted",
        "tokenizer_config.json and config.json named two end tokens",
        _end_contradicted,
        "S-19",
    ),
    _fault(
        "tokenizer-pointer",
        "a Git LFS pointer lay where tokenizer.json belongs",
        lambda folder: replace_by_pointer(folder / FILE),
        "S-91",
    ),
    _fault("tokenizer-cut-off", "tokenizer.json broke off in the middle", _cut_off, "S-110"),
)
