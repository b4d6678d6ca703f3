from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, pre_tokenizers

from apr.base.errors import AprError
from apr.convert.gguf_tokenizer import PRE_TOKENIZERS, definition_from_gguf
from apr.tokenizer.definition import TokenizerDefinition
from apr.tokenizer.engine import TextTokenizer
from apr.tokenizer.errors import (
    EndOfTextAmbiguous,
    GgufTokenizerFieldBad,
    GgufTokenizerFieldMissing,
    GgufTokenizerUnsupported,
    PreTokenizerUnknown,
    TokenUnknown,
)

Fields = Callable[..., dict[str, Any]]
SAMPLE = "x  12345, DON'T\r\n\n  we'll   \u00e9t\u00e9 \u0661\u0662\u00bd\u65e5\u672c!!\n\n\t y\u2028z "


def document(definition: TokenizerDefinition) -> dict[str, Any]:
    return json.loads(definition.json_text)


def test_padding_is_dropped_and_added_tokens_are_flagged(tiny_definition: TokenizerDefinition) -> None:
    made = document(tiny_definition)
    added = [(entry["id"], entry["content"], entry["special"]) for entry in made["added_tokens"]]
    assert added == [(265, "<|endoftext|>", True), (266, "<|im_end|>", True), (267, "<tool>", False)]
    assert max(made["model"]["vocab"].values()) == 267
    ids = (tiny_definition.end_of_text_id, tiny_definition.bos_token_id, tiny_definition.eos_token_id)
    assert ids == (265, 265, 266)


def isolated(pattern: str, text: str) -> list[str]:
    return [piece for piece, _ in pre_tokenizers.Split(Regex(pattern), "isolated").pre_tokenize_str(text)]


def modern_split(digits: str) -> Callable[[str], list[str]]:
    words = rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}"
    rest = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    return lambda text: isolated(words + rest, text)


def gpt2_split(text: str) -> list[str]:
    return isolated(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", text)


def digits_split(text: str) -> list[str]:
    return [piece for part in isolated(r"\p{N}", text) for piece in gpt2_split(part)]


llama3_split, qwen2_split = modern_split(r"\p{N}{1,3}"), modern_split(r"\p{N}")
SPLITS = {
    "gpt-2": gpt2_split,
    "phi-2": gpt2_split,
    "smollm": digits_split,
    "starcoder": digits_split,
    "refact": digits_split,
    "llama-bpe": llama3_split,
    "llama-v3": llama3_split,
    "llama3": llama3_split,
    "qwen2": qwen2_split,
}


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_text_is_split_as_the_name_says(byte_level_fields: Fields, name: str) -> None:
    # Each split is written again here by its regular expression alone, without Digits and ByteLevel.
    made = definition_from_gguf(byte_level_fields(pre=name))
    found = Tokenizer.from_str(made.json_text).pre_tokenizer.pre_tokenize_str(SAMPLE)
    assert [SAMPLE[start:end] for _, (start, end) in found] == SPLITS[name](SAMPLE)


def test_the_sample_tells_the_splits_apart() -> None:
    assert set(SPLITS) == set(PRE_TOKENIZERS)
    assert len({tuple(split(SAMPLE)) for split in SPLITS.values()}) == 4


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("smollm", " 12", ["\u0120", "1", "2"]),
        ("gpt-2", " 12", ["\u0120", "12"]),
        ("qwen2", " 12", ["\u0120", "1", "2"]),
        ("llama-bpe", " 12", ["\u0120", "12"]),
        ("gpt-2", "  the", ["\u0120", "\u0120the"]),
        ("smollm", "  1", ["\u0120\u0120", "1"]),
        ("gpt-2", "  1", ["\u0120", "\u01201"]),
    ],
)
def test_known_tokens(byte_level_fields: Fields, name: str, text: str, expected: list[str]) -> None:
    fields = byte_level_fields(pre=name)
    ids = TextTokenizer(definition_from_gguf(fields)).encode(text)
    assert [fields["tokenizer.ggml.tokens"][token_id] for token_id in ids] == expected


@pytest.mark.parametrize(("name", "whole"), [("llama-bpe", True), ("smollm", False), ("qwen2", False)])
def test_only_llama3_takes_a_whole_word_without_merges(
    byte_level_fields: Fields, name: str, whole: bool
) -> None:
    tokens = byte_level_fields()["tokenizer.ggml.tokens"]
    spare = tokens.index("er")
    tokens[spare] = "zebra"
    fields = byte_level_fields(pre=name, tokens=tokens, merges=["t h"])
    assert (TextTokenizer(definition_from_gguf(fields)).encode("zebra") == [spare]) is whole


@pytest.mark.parametrize("name", [None, "default", "qwen35", "tekken", "SMOLLM", ["smollm"]])
def test_an_unknown_pre_tokenizer_is_refused_by_name(byte_level_fields: Fields, name: Any) -> None:
    with pytest.raises(PreTokenizerUnknown) as caught:
        definition_from_gguf(byte_level_fields(pre=name))
    assert caught.value.name == str(name)
    assert "--tokenizer" in caught.value.advice


@pytest.mark.parametrize("kind", ["t5", "bert", "rwkv", "GPT2"])
def test_another_kind_is_refused_by_name(byte_level_fields: Fields, kind: str) -> None:
    with pytest.raises(GgufTokenizerUnsupported) as caught:
        definition_from_gguf(byte_level_fields(model=kind))
    assert caught.value.kind == kind


@pytest.mark.parametrize("name", ["model", "tokens", "token_type", "merges"])
def test_a_missing_field_is_named(byte_level_fields: Fields, name: str) -> None:
    with pytest.raises(GgufTokenizerFieldMissing) as caught:
        definition_from_gguf(byte_level_fields(**{name: None}))
    assert caught.value.field == f"tokenizer.ggml.{name}"


def changed(fields: dict[str, Any], name: str, index: int, value: Any) -> dict[str, Any]:
    values = list(fields[f"tokenizer.ggml.{name}"])
    values[index] = value
    return {**fields, f"tokenizer.ggml.{name}": values}


@pytest.mark.parametrize(
    ("name", "index", "value"),
    [
        ("tokens", 7, "a"),
        ("tokens", 7, ""),
        ("tokens", 7, "\ud800"),
        ("tokens", 7, 7),
        ("token_type", 7, 0),
        ("token_type", 7, 7),
        ("token_type", 7, True),
        ("token_type", 7, 2),
        ("token_type", 7, 6),
        ("merges", 0, "ab"),
        ("merges", 0, "a zz"),
        ("merges", 0, "a b"),
        ("merges", 0, "a "),
    ],
)
def test_a_bad_entry_is_refused(byte_level_fields: Fields, name: str, index: int, value: Any) -> None:
    with pytest.raises(GgufTokenizerFieldBad) as caught:
        definition_from_gguf(changed(byte_level_fields(), name, index, value))
    assert caught.value.field == f"tokenizer.ggml.{name}"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tokens": []}, "token_type"),
        ({"tokens": "abc"}, "tokens"),
        ({"token_type": [1]}, "token_type"),
        ({"model": 5}, "model"),
        ({"eos_token_id": 268}, "eos_token_id"),
        ({"eos_token_id": -1}, "eos_token_id"),
        ({"bos_token_id": 1.0}, "bos_token_id"),
    ],
)
def test_a_bad_field_is_refused(byte_level_fields: Fields, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(GgufTokenizerFieldBad) as caught:
        definition_from_gguf(byte_level_fields(**changes))
    assert caught.value.field == f"tokenizer.ggml.{field}"


@pytest.mark.parametrize(
    ("second", "eos", "named", "expected"),
    [
        ("<|im_end|>", 266, None, 265),
        ("<|end_of_text|>", 266, None, 266),
        ("<|end_of_text|>", None, None, EndOfTextAmbiguous),
        ("<|end_of_text|>", None, "<tool>", 267),
        ("<|im_end|>", 266, "<eot>", TokenUnknown),
    ],
)
def test_the_document_separator(
    byte_level_fields: Fields, second: str, eos: int | None, named: str | None, expected: int | type[AprError]
) -> None:
    fields = changed(byte_level_fields(eos_token_id=eos), "tokens", 266, second)
    if isinstance(expected, int):
        assert definition_from_gguf(fields, end_of_text=named).end_of_text_id == expected
        return
    with pytest.raises(expected):
        definition_from_gguf(fields, end_of_text=named)
