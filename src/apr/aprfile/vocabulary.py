"""The tokenizer in the keys that other tools of the field look for, made from the tokenizer.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from apr.aprfile.errors import FactsBad

_HOLE = "<unk>"  # what the field's importers put at ids that no token has


def vocabulary_keys(
    tokenizer_json: str, special_ids: Mapping[str, Any], vocab_size: int, source: str
) -> dict[str, Any]:
    """List the tokens by id, the merges as "left right", and the special ids.

    Args:
        tokenizer_json: the text of a tokenizer.json.
        special_ids: `bos_token_id` and `eos_token_id` as the checkpoint declares them; the text does not say.
        vocab_size: rows of the embedding; the list is filled up to it.
        source: what holds them, for messages.

    Raises:
        FactsBad: the text is no tokenizer.json, or has ids that the model has no row for.
    """
    document = _parse(tokenizer_json, source)
    model = document["model"]
    keys: dict[str, Any] = {
        "tokenizer.vocabulary": _by_id(_token_ids(document, source), vocab_size, source),
        "tokenizer.vocab_size": vocab_size,
        "tokenizer.model_type": str(model.get("type") or "BPE"),
    }
    if "merges" in model:
        keys["tokenizer.merges"] = [_joined(pair, source) for pair in model["merges"]]
    if isinstance(model["vocab"], list):
        keys["tokenizer.scores"] = [float(entry[1]) for entry in model["vocab"]]
    for name in ("bos_token_id", "eos_token_id"):
        if special_ids.get(name) is not None:
            keys[f"tokenizer.{name}"] = special_ids[name]
    return keys


def _bad(source: str, field: str, value: str, limit: str) -> FactsBad:
    return FactsBad(path=source, field=field, value=value, limit=limit)


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad(source, "tokenizer_json", str(error), "JSON") from error
    model = document.get("model") if isinstance(document, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict | list):
        raise _bad(source, "tokenizer_json", text[:40], "an object with a model and its vocabulary")
    return document


def _token_ids(document: dict[str, Any], source: str) -> dict[int, str]:
    vocab = document["model"]["vocab"]
    try:
        if isinstance(vocab, list):  # Unigram: [token, score], the position is the id
            tokens = {position: str(entry[0]) for position, entry in enumerate(vocab)}
        else:
            tokens = {int(position): token for token, position in vocab.items()}
        added = {int(entry["id"]): str(entry["content"]) for entry in document.get("added_tokens") or ()}
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _bad(source, "tokenizer_json vocabulary", repr(error), "tokens with ids") from error
    return tokens | added


def _by_id(tokens: dict[int, str], vocab_size: int, source: str) -> list[str]:
    if tokens and not (min(tokens) >= 0 and max(tokens) < vocab_size):
        limit = f"below the {vocab_size:,} rows of the embedding"
        raise _bad(source, "the greatest token id", f"{max(tokens):,}", limit)
    return [tokens.get(position, _HOLE) for position in range(vocab_size)]


def _joined(pair: Any, source: str) -> str:
    if isinstance(pair, str):
        return pair
    if isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair):
        return " ".join(pair)
    raise _bad(source, "tokenizer_json merge", repr(pair), "two tokens")
