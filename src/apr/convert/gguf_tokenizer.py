"""The tokenizer inside a GGUF file, as the tokenizer.json that the model was published with.

A GGUF file carries the vocabulary and the merges, but names the steps before them (normalizer, splitting)
only by a word. The words below are those whose published tokenizer.json is known; any other is refused,
because a wrong split gives valid ids that the model was not trained on, and nothing fails.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apr.tokenizer.definition import TokenizerDefinition, make_definition
from apr.tokenizer.errors import (
    GgufTokenizerFieldBad,
    GgufTokenizerFieldMissing,
    GgufTokenizerInexact,
    GgufTokenizerUnsupported,
    PreTokenizerUnknown,
)
from apr.tokenizer.restored import SPACE_MARK

_PREFIX = "tokenizer.ggml."
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_PADDING = re.compile(r"\[PAD\d+\]")
_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")

# Contractions, words with one leading character, digits, punctuation, line ends, spaces; the families differ
# in how many digits make one piece.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _byte_level_step(use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _split_steps(digits: str) -> list[dict[str, Any]]:
    pattern = {"Regex": _SPLIT % digits}
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    return [split, _byte_level_step(use_regex=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Steps:
    """What stands before the merges, and whether a whole word may skip them."""

    pre_tokenizers: Sequence[Mapping[str, Any]]
    normalizer: Mapping[str, Any] | None = None
    ignore_merges: bool = False


_GPT2 = _Steps(pre_tokenizers=[_byte_level_step(use_regex=True)])
_DIGITS = _Steps(
    pre_tokenizers=[{"type": "Digits", "individual_digits": True}, _byte_level_step(use_regex=True)]
)
_LLAMA3 = _Steps(pre_tokenizers=_split_steps("{1,3}"), ignore_merges=True)
# `default` is left out on purpose: it is what converters wrote when they did not know, and llama.cpp reads it
# as a split of its own that no published tokenizer has.
PRE_TOKENIZERS: dict[str, _Steps] = {
    "gpt-2": _GPT2,
    "phi-2": _GPT2,
    "smollm": _DIGITS,
    "starcoder": _DIGITS,
    "refact": _DIGITS,
    "llama-bpe": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama3": _LLAMA3,
    "qwen2": _Steps(pre_tokenizers=_split_steps(""), normalizer={"type": "NFC"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    token_id: int
    text: str
    kind: int


def definition_from_gguf(fields: Mapping[str, Any], *, end_of_text: str | None = None) -> TokenizerDefinition:
    """Rebuild the published tokenizer.json from a GGUF file's metadata.

    Unused padding entries (`[PADn]`) are left out: they fill the embedding's rows and are no tokens.

    Args:
        fields: the file's metadata, key to plain value.
        end_of_text: the document separator's text where the caller names it.

    Returns:
        The definition; its bos and eos are the file's.

    Raises:
        GgufTokenizerFieldMissing, GgufTokenizerFieldBad: a field is absent, or contradicts the format.
        GgufTokenizerUnsupported, PreTokenizerUnknown, GgufTokenizerInexact: the file does not determine the
            tokenizer, so that the published one must be given.
        TokenUnknown, EndOfTextAmbiguous: see `apr.tokenizer.special`.
    """
    kind = _field(fields, "model", str)
    builders: dict[str, Callable[..., dict[str, Any]]] = {"gpt2": _byte_level, "llama": _sentencepiece}
    if kind not in builders:
        raise GgufTokenizerUnsupported(kind=kind, supported=", ".join(builders))
    entries = _entries(fields)
    document = builders[kind](fields, entries)
    return make_definition(
        json.dumps(document, ensure_ascii=False, separators=(",", ":")),
        bos_token_id=_special_id(fields, "bos_token_id", entries),
        eos_token_id=_special_id(fields, "eos_token_id", entries),
        end_of_text=end_of_text,
        source="the GGUF file",
    )


def _byte_level(fields: Mapping[str, Any], entries: Sequence[_Entry]) -> dict[str, Any]:
    name = fields.get(_PREFIX + "pre")
    if not isinstance(name, str) or name not in PRE_TOKENIZERS:
        raise PreTokenizerUnknown(name=str(name)[:80], supported=", ".join(PRE_TOKENIZERS))
    steps = PRE_TOKENIZERS[name]
    _refuse_kinds(entries, _UNKNOWN, _BYTE)
    pre_tokenizers = steps.pre_tokenizers
    sequence = {"type": "Sequence", "pretokenizers": pre_tokenizers}
    return _document(
        entries,
        normalizer=steps.normalizer,
        pre_tokenizer=sequence if len(pre_tokenizers) > 1 else pre_tokenizers[0],
        decoder=_byte_level_step(use_regex=True),
        merges=_listed_merges(fields, {entry.text for entry in entries}),
        ignore_merges=steps.ignore_merges,
    )


def _listed_merges(fields: Mapping[str, Any], known: set[str]) -> list[tuple[str, str]]:
    merges = []
    for line in _list(fields, "merges", str):
        left, space, right = line.partition(" ")
        if not (space and {left, right, left + right} <= known):
            raise _bad("merges", line, "two tokens whose join is a token")
        merges.append((left, right))
    return merges


def _sentencepiece(fields: Mapping[str, Any], entries: Sequence[_Entry]) -> dict[str, Any]:
    """BPE as SentencePiece does it: the pair whose join scores highest is merged first."""
    _require_plain_sentencepiece(fields)
    _refuse_kinds(entries, _UNUSED)
    unknown = [entry.text for entry in entries if entry.kind == _UNKNOWN]
    bytes_ = [entry.text for entry in entries if entry.kind == _BYTE]
    if len(unknown) != 1:
        raise _bad("token_type", f"{len(unknown)} unknown tokens", "exactly one")
    if bytes_ and (len(bytes_) != 256 or not all(_BYTE_TOKEN.fullmatch(text) for text in bytes_)):
        raise _bad("token_type", f"{len(bytes_)} byte tokens", "<0x00> to <0xFF>, or none")
    # The format gives an absent flag the meaning true: files older than the flag all have the prefix.
    is_prefixed = fields.get(_PREFIX + "add_space_prefix", True)
    if not isinstance(is_prefixed, bool):
        raise _bad("add_space_prefix", repr(is_prefixed)[:80], "true or false")
    prepend = [{"type": "Prepend", "prepend": SPACE_MARK}] if is_prefixed else []
    mark = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE_MARK}
    unmark = {"type": "Replace", "pattern": {"String": SPACE_MARK}, "content": " "}
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if is_prefixed else []
    return _document(
        entries,
        normalizer={"type": "Sequence", "normalizers": [*prepend, mark]},
        pre_tokenizer=None,
        decoder={
            "type": "Sequence",
            "decoders": [unmark, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip],
        },
        merges=_scored_merges(fields, entries),
        unk_token=unknown[0],
        fuse_unk=True,
        byte_fallback=bool(bytes_),
    )


def _require_plain_sentencepiece(fields: Mapping[str, Any]) -> None:
    architecture = fields.get("general.architecture")
    if architecture != "llama":  # Gemma's scores are not its merge order; Phi-3 strips beside added tokens
        raise GgufTokenizerInexact(
            reason=f"SentencePiece rules of the architecture {architecture} are not known"
        )
    for name in ("remove_extra_whitespaces", "precompiled_charsmap"):
        value = fields.get(_PREFIX + name)
        if value is not None and value is not False and value != []:
            raise GgufTokenizerInexact(reason=f"it sets {_PREFIX}{name}")


def _scored_merges(fields: Mapping[str, Any], entries: Sequence[_Entry]) -> list[tuple[str, str]]:
    """The merges that the scores imply: every cut of a piece into two pieces, best piece first."""
    all_scores = _list(fields, "scores", float | int)
    if len(all_scores) <= max(entry.token_id for entry in entries):
        raise _bad("scores", f"{len(all_scores)} values", "one for each token")
    ids = {entry.text: entry.token_id for entry in entries if entry.kind == _NORMAL}
    pieces = sorted((text for text in ids if len(text) > 1), key=lambda text: -all_scores[ids[text]])
    _require_merge_order(pieces, [all_scores[ids[text]] for text in pieces], ids)
    # Which cut of one piece comes first matters only where two of them overlap; the longest left part first
    # is the order of transformers' converter.
    cuts = ((piece[:cut], piece[cut:]) for piece in pieces for cut in range(len(piece) - 1, 0, -1))
    return [(left, right) for left, right in cuts if left in ids and right in ids]


def _require_merge_order(pieces: Sequence[str], scores: Sequence[float], ids: Mapping[str, int]) -> None:
    # A BPE trainer numbers its merges 0, -1, -2, ...; log-probabilities mean a Unigram model, and equal
    # scores are placeholders of a converter, which say nothing of the order.
    if not all(float(score).is_integer() for score in scores):
        raise GgufTokenizerInexact(reason="its scores are not the ranks of merges")
    if len(set(scores)) != len(scores):
        raise GgufTokenizerInexact(reason="several pieces have the same score")
    if strange := sorted({character for piece in pieces for character in piece} - set(ids))[:3]:
        raise GgufTokenizerInexact(reason=f"pieces are spelled with {strange}, which are no pieces")


def _document(entries: Sequence[_Entry], *, merges: list[tuple[str, str]], **parts: Any) -> dict[str, Any]:
    steps = {key: parts.pop(key) for key in ("normalizer", "pre_tokenizer", "decoder")}
    flags = {"byte_fallback": False, "fuse_unk": False, "ignore_merges": False, "unk_token": None, **parts}
    special = {_CONTROL: True, _UNKNOWN: True, _USER_DEFINED: False}
    options = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": entry.token_id, "content": entry.text, **options, "special": special[entry.kind]}
        for entry in entries
        if entry.kind in special
    ]
    # Added tokens stand in the model's vocabulary too: the engine then takes their ids from there, where it
    # would otherwise number them itself.
    vocab = {entry.text: entry.token_id for entry in entries}
    nothing = {"truncation": None, "padding": None, "post_processor": None}
    spelling = {"dropout": None, "continuing_subword_prefix": None, "end_of_word_suffix": None}
    model = {"type": "BPE", **spelling, **flags, "vocab": vocab, "merges": merges}
    return {"version": "1.0", **nothing, "added_tokens": added, **steps, "model": model}


def _entries(fields: Mapping[str, Any]) -> list[_Entry]:
    texts, kinds = _list(fields, "tokens", str), _list(fields, "token_type", int)
    if len(texts) != len(kinds) or not texts:
        raise _bad("token_type", f"{len(kinds)} values", f"one for each of {len(texts)} tokens")
    if strange := set(kinds) - set(range(_NORMAL, _BYTE + 1)):
        raise _bad("token_type", str(min(strange)), "from 1 to 6")
    entries = [
        _Entry(token_id=index, text=text, kind=kind)
        for index, (text, kind) in enumerate(zip(texts, kinds, strict=True))
        if not (kind == _UNUSED and _PADDING.fullmatch(text))
    ]
    _require_distinct([entry.text for entry in entries])
    return entries


def _require_distinct(texts: Sequence[str]) -> None:
    seen: set[str] = set()
    for text in texts:
        if text in seen or not text or any("\ud800" <= character < "\ue000" for character in text):
            raise _bad("tokens", ascii(text), "a Unicode text that no other token has")
        seen.add(text)


def _refuse_kinds(entries: Sequence[_Entry], *kinds: int) -> None:
    for entry in entries:
        if entry.kind in kinds:
            raise _bad("token_type", f"{entry.kind} for {entry.text}", "a kind this tokenizer uses")


def _special_id(fields: Mapping[str, Any], name: str, entries: Sequence[_Entry]) -> int | None:
    value = fields.get(_PREFIX + name)
    if value is not None and (type(value) is not int or all(entry.token_id != value for entry in entries)):
        raise _bad(name, repr(value), "the id of a token")
    return value


def _field(fields: Mapping[str, Any], name: str, kind: Any) -> Any:
    if fields.get(_PREFIX + name) is None:
        raise GgufTokenizerFieldMissing(field=_PREFIX + name)
    value = fields[_PREFIX + name]
    if not isinstance(value, kind):
        raise _bad(name, repr(value)[:80], "of the format's type")
    return value


def _list(fields: Mapping[str, Any], name: str, kind: Any) -> list[Any]:
    values = _field(fields, name, list)
    if not all(isinstance(value, kind) and not isinstance(value, bool) for value in values):
        raise _bad(name, "a list with another type in it", "a list of the format's type")
    return values


def _bad(name: str, value: str, limit: str) -> GgufTokenizerFieldBad:
    return GgufTokenizerFieldBad(field=_PREFIX + name, value=value, limit=limit)
