"""Special ids of a tokenizer.json: what it holds, what is declared beside it, which token ends a document.

The rule for the document separator, in order:
1. the token that the caller names;
2. the control token spelled exactly `<|endoftext|>` or `<|end_of_text|>`; where both are there, the one
   that is also the declared eos, and otherwise the choice is refused;
3. the declared eos;
4. none, and whoever needs one must ask for --eos-token.

The declared eos comes third because in a chat model it ends a turn (`<|im_end|>`), not a document.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apr.base.files import read_json, unique_object
from apr.tokenizer.errors import (
    AddedTokenMoved,
    EndOfTextAmbiguous,
    SpecialTokenBad,
    TokenizerNotLoadable,
    TokenUnknown,
)

END_OF_TEXT_NAMES = ("<|endoftext|>", "<|end_of_text|>")


def parse_document(json_text: str, source: str) -> dict[str, Any]:
    """Parse the text of a tokenizer.json.

    Raises:
        TokenizerNotLoadable: it is not JSON, not an object with a model, or says two things under one key.
    """
    try:
        document = json.loads(json_text, object_pairs_hook=unique_object)
    except (ValueError, RecursionError) as error:
        raise TokenizerNotLoadable(source=source, reason=str(error)) from error
    if not isinstance(document, dict) or not isinstance(document.get("model"), dict):
        raise TokenizerNotLoadable(source=source, reason="it is not an object with a `model`")
    return document


def added_tokens(document: Mapping[str, Any], source: str) -> list[dict[str, Any]]:
    """The added tokens, each with at least `id`, `content` and `special`.

    Raises:
        TokenizerNotLoadable: an entry lacks one of them.
    """
    entries = document.get("added_tokens") or []
    if not isinstance(entries, list):
        raise TokenizerNotLoadable(source=source, reason="its added_tokens are no list")
    wanted = {"id": int, "content": str, "special": bool}
    for entry in entries:
        if not isinstance(entry, dict) or any(
            type(entry.get(key)) is not kind for key, kind in wanted.items()
        ):
            raise TokenizerNotLoadable(source=source, reason=f"bad entry in added_tokens: {str(entry)[:80]}")
    return entries


def vocabulary(document: Mapping[str, Any], source: str) -> dict[str, int]:
    """Every token and its id, added tokens included.

    Raises:
        TokenizerNotLoadable: the model has no vocabulary.
    """
    vocab = document["model"].get("vocab")
    if isinstance(vocab, list):  # a Unigram model lists [token, score]
        known = {
            str(entry[0]): index for index, entry in enumerate(vocab) if isinstance(entry, list) and entry
        }
    elif isinstance(vocab, dict):
        known = dict(vocab)
    else:
        raise TokenizerNotLoadable(source=source, reason="its model has no vocabulary")
    known.update({entry["content"]: entry["id"] for entry in added_tokens(document, source)})
    _require_one_token_an_id(known, source)
    return known


def _require_one_token_an_id(known: Mapping[str, int], source: str) -> None:
    """Refuse a vocabulary in which two tokens share an id: the second could never be decoded."""
    first: dict[int, str] = {}
    for token, token_id in known.items():
        if first.setdefault(token_id, token) != token:
            reason = f"its tokens {first[token_id]!r} and {token!r} have the same id {token_id}"
            raise TokenizerNotLoadable(source=source, reason=reason)


def find_token(known: Mapping[str, int], token: str, asked_by: str) -> int:
    """The id of a token spelled exactly so.

    Raises:
        TokenUnknown: it is not in the vocabulary.
    """
    if token not in known:
        near = difflib.get_close_matches(token, [name for name in known if name.startswith("<")], n=5)
        raise TokenUnknown(asked_by=asked_by, token=token, nearest=", ".join(near) or "none")
    return known[token]


def choose_end_of_text(
    document: Mapping[str, Any], *, named: str | None, eos_token_id: int | None, source: str
) -> tuple[int | None, str]:
    """Choose the document separator by the rule above.

    Args:
        document: the parsed tokenizer.json.
        named: the token the caller names, or None.
        eos_token_id: the declared eos, or None.
        source: what the tokenizer is called in an error.

    Returns:
        Its id, or None, and which rule chose it.

    Raises:
        TokenUnknown: the named token is not in the vocabulary.
        EndOfTextAmbiguous: several candidates, none of them the declared eos.
    """
    if named is not None:
        return find_token(vocabulary(document, source), named, "--eos-token"), f"{named}, named by the caller"
    found = {
        entry["content"]: entry["id"]
        for entry in added_tokens(document, source)
        if entry["special"] and entry["content"] in END_OF_TEXT_NAMES
    }
    chosen = {content: id_ for content, id_ in found.items() if len(found) == 1 or id_ == eos_token_id}
    if found and not chosen:
        raise EndOfTextAmbiguous(candidates=" and ".join(sorted(found)))
    for content, token_id in chosen.items():
        return token_id, f"the control token {content}"
    if eos_token_id is not None:
        return eos_token_id, "the declared eos"
    return None, "no end-of-text token and no eos is declared"


def declared_ids(folder: Path, known: Mapping[str, int]) -> dict[str, int | None]:
    """What the files beside a tokenizer.json declare as `bos_token_id` and `eos_token_id`.

    Names in tokenizer_config.json come before those in special_tokens_map.json, and both before the ids of
    generation_config.json, whose list of several eos ids declares none: it says where to stop, not what ends.

    Raises:
        TokenUnknown, SpecialTokenBad: a declared token is not in the vocabulary, or is no token.
        CannotRead, BadJson: a file is there and cannot be read.
    """
    ids = {f"{name}_token_id": _declared_id(folder, f"{name}_token", known) for name in ("bos", "eos")}
    _require_same_eos(folder, ids["eos_token_id"])
    return ids


def _require_same_eos(folder: Path, declared: int | None) -> None:
    """Refuse a tokenizer whose eos is none of those that the model's config names: one of them ends no text."""
    named = _read_optional(folder / "config.json").get("eos_token_id")
    ids = named if isinstance(named, list) else [named]
    if declared is not None and named is not None and declared not in ids:
        limit = f"one that config.json beside it names as eos_token_id ({', '.join(map(str, ids))})"
        raise SpecialTokenBad(source="the tokenizer", field="eos_token_id", value=str(declared), limit=limit)


def require_declared_added(folder: Path, known: Mapping[str, int]) -> None:
    """Refuse added tokens that tokenizer_config.json lists and tokenizer.json does not hold under that id.

    transformers adds such tokens when it loads the folder, so the model may have been trained with them.

    Raises:
        AddedTokenMoved, SpecialTokenBad: one is missing or has another id, or the list is malformed.
        CannotRead, BadJson: the file is there and cannot be read.
    """
    file, field = "tokenizer_config.json", "added_tokens_decoder"
    listed = _read_optional(folder / file).get(field) or {}
    for key, entry in listed.items() if isinstance(listed, dict) else [("", listed)]:
        content = entry.get("content") if isinstance(entry, dict) else None
        if not isinstance(content, str) or not key.isdecimal():
            raise SpecialTokenBad(source=file, field=field, value=str(entry)[:80], limit="ids and tokens")
        if known.get(content) != int(key):
            raise AddedTokenMoved(token=content, declared=int(key), found=str(known.get(content)))


def _declared_id(folder: Path, field: str, known: Mapping[str, int]) -> int | None:
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        value = _read_optional(folder / file).get(field)
        content = value.get("content") if isinstance(value, dict) else value
        if value is not None and not isinstance(content, str):
            raise SpecialTokenBad(
                source=file, field=field, value=repr(value)[:80], limit="the text of a token"
            )
        if content is not None:
            return find_token(known, content, file)
    return _generation_id(_read_optional(folder / "generation_config.json").get(f"{field}_id"), field, known)


def _generation_id(value: Any, field: str, known: Mapping[str, int]) -> int | None:
    ids = value if isinstance(value, list) else [value]
    if value is None or len(ids) != 1:
        return None
    if type(ids[0]) is not int or ids[0] not in known.values():
        raise SpecialTokenBad(
            source="generation_config.json",
            field=f"{field}_id",
            value=repr(value),
            limit="an id of the vocabulary",
        )
    return ids[0]


def _read_optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
