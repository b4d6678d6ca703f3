from __future__ import annotations

import json
import pickle
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apr.convert.gguf_tokenizer import PRE_TOKENIZERS, definition_from_gguf
from apr.tokenizer.alphabet import byte_symbols
from apr.tokenizer.definition import TokenizerDefinition
from apr.tokenizer.engine import TextTokenizer, Tokenizer
from apr.tokenizer.errors import (
    AddedTokenMoved,
    CannotEncode,
    SpecialTokenBad,
    TextNotUnicode,
    TokenIdUnknown,
    TokenizerNotLoadable,
)

Fields = Callable[..., dict[str, Any]]
Json = Callable[..., str]
UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def define(json_text: str, **ids: int | None) -> TokenizerDefinition:
    nothing = {"end_of_text_id": None, "bos_token_id": None, "eos_token_id": None}
    return TokenizerDefinition(json_text=json_text, end_of_text_reason="test", **{**nothing, **ids})


@pytest.fixture(scope="module")
def by_name(byte_level_fields: Fields) -> dict[str, TextTokenizer]:
    return {name: TextTokenizer(definition_from_gguf(byte_level_fields(pre=name))) for name in PRE_TOKENIZERS}


@pytest.fixture(scope="module")
def tiny(by_name: dict[str, TextTokenizer]) -> TextTokenizer:
    return by_name["smollm"]


def test_it_meets_the_protocol(tiny: TextTokenizer) -> None:
    as_protocol: Tokenizer = tiny
    assert (as_protocol.vocab_size, as_protocol.max_id, as_protocol.unknown_id) == (268, 267, None)
    assert as_protocol.definition.end_of_text_id == 265


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
@given(text=UNICODE)
def test_byte_level_round_trips(by_name: dict[str, TextTokenizer], name: str, text: str) -> None:
    tokenizer = by_name[name]
    assert tokenizer.decode(tokenizer.encode(text)) == tokenizer.normalize(text)


@given(text=UNICODE)
@example(text="e\u0301 \u1100\u1161 \u212b")  # chance seldom makes a text that NFC changes
def test_only_qwen2_normalizes(by_name: dict[str, TextTokenizer], text: str) -> None:
    assert by_name["qwen2"].normalize(text) == unicodedata.normalize("NFC", text)
    assert by_name["smollm"].normalize(text) == text


@given(texts=st.lists(UNICODE, max_size=5))
def test_a_batch_is_its_texts(tiny: TextTokenizer, texts: list[str]) -> None:
    assert tiny.encode_batch(texts) == [tiny.encode(text) for text in texts]


def test_added_tokens_are_read_from_text_and_kept_in_text(tiny: TextTokenizer) -> None:
    text = "the<|endoftext|> <tool><|im_end|>"
    ids = tiny.encode(text)
    assert [token_id for token_id in ids if token_id >= 265] == [265, 267, 266]
    assert tiny.decode(ids) == text


def test_nothing_is_put_around_cut_or_padded(tiny_json: Json) -> None:
    # All three are settings that a tokenizer.json may carry, and each would change training data unseen.
    single = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    text = tiny_json(
        ("<s>", True),
        truncation={"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        padding={
            "strategy": {"Fixed": 9},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "a",
        },
        post_processor={
            "type": "TemplateProcessing",
            "single": single,
            "pair": single,
            "special_tokens": {"<s>": {"id": "<s>", "ids": [4], "tokens": ["<s>"]}},
        },
    )
    assert TextTokenizer(define(text)).encode("abcd") == [0, 1, 2, 3]


@pytest.mark.parametrize("token_id", [-1, 2, 5, 1 << 40])
def test_an_id_without_a_token_is_refused(tiny_json: Json, token_id: int) -> None:
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 4}, "merges": []}
    holed = TextTokenizer(define(tiny_json(model=model)))
    assert (holed.vocab_size, holed.max_id) == (3, 4)
    assert holed.decode([0, 4]) == "a c"  # no decoder: the engine joins with spaces
    with pytest.raises(TokenIdUnknown) as caught:
        holed.decode([0, token_id])
    assert (caught.value.token_id, caught.value.max_id) == (token_id, 4)


def test_a_lone_surrogate_is_refused_with_its_place(tiny: TextTokenizer) -> None:
    with pytest.raises(TextNotUnicode) as caught:
        tiny.encode_batch(["fine", "\ud800"])
    assert caught.value.index == 1
    with pytest.raises(TextNotUnicode):
        tiny.normalize("\udfff")


def test_a_text_the_engine_refuses_is_our_error(tiny_json: Json) -> None:
    model = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "?"}
    tokenizer = TextTokenizer(define(tiny_json(model=model)))
    assert tokenizer.encode("a") == [0]
    with pytest.raises(CannotEncode):
        tokenizer.encode("b")


def test_the_unknown_token_is_the_models(tiny_json: Json) -> None:
    model = {"type": "BPE", "vocab": {"a": 0, "?": 1}, "merges": [], "unk_token": "?"}
    tokenizer = TextTokenizer(define(tiny_json(model=model)))
    assert (tokenizer.unknown_id, tokenizer.encode("az")) == (1, [0, 1])


def test_bytes_without_a_symbol_are_reported(byte_level_fields: Fields) -> None:
    tokens = byte_level_fields()["tokenizer.ggml.tokens"]
    for byte in (0x04, 0xF1, 0xFF):  # 0xFF stands in no UTF-8 text, so its loss loses nothing
        tokens[tokens.index(byte_symbols()[byte])] = f"spare{byte}"
    tokenizer = TextTokenizer(definition_from_gguf(byte_level_fields(tokens=tokens)))
    assert tokenizer.lost_bytes == (0x04, 0xF1)
    assert tokenizer.decode(tokenizer.encode("a\x04b")) == "ab"


def test_no_bytes_are_lost_elsewhere(tiny: TextTokenizer, tiny_json: Json) -> None:
    assert tiny.lost_bytes == ()
    assert TextTokenizer(define(tiny_json())).lost_bytes == ()


@pytest.mark.parametrize(
    "text",
    ["", "null", '{"model": {}}', '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "z"]]}}'],
)
def test_text_the_engine_cannot_load_is_refused(text: str) -> None:
    with pytest.raises(TokenizerNotLoadable):
        TextTokenizer(define(text))


def test_an_empty_vocabulary_is_refused(tiny_json: Json) -> None:
    with pytest.raises(TokenizerNotLoadable):
        TextTokenizer(define(tiny_json(model={"type": "BPE", "vocab": {}, "merges": []})))


def test_an_added_token_that_would_move_is_refused(tiny_json: Json) -> None:
    document = json.loads(tiny_json(("<s>", True)))
    document["added_tokens"][0]["id"] = 7
    with pytest.raises(AddedTokenMoved) as caught:
        TextTokenizer(define(json.dumps(document)))
    assert (caught.value.declared, caught.value.found) == (7, "4")


@pytest.mark.parametrize("field", ["end_of_text_id", "bos_token_id", "eos_token_id"])
@pytest.mark.parametrize("value", [-1, 268])
def test_a_special_id_outside_the_vocabulary_is_refused(
    tiny_definition: TokenizerDefinition, field: str, value: int
) -> None:
    with pytest.raises(SpecialTokenBad) as caught:
        TextTokenizer(replace(tiny_definition, **{field: value}))
    assert caught.value.field == field


def test_it_travels_to_other_processes(tiny: TextTokenizer) -> None:
    copy = pickle.loads(pickle.dumps(tiny))
    assert copy.encode("the 12<tool>") == tiny.encode("the 12<tool>")
    assert copy.definition == tiny.definition


@pytest.mark.parametrize(
    ("scheme", "text", "expected"),
    [
        ("always", "a b", "a b"),
        ("always", " a\u2581b", "a b"),
        ("always", "  a", " a"),
        ("first", " a", "a"),
        ("never", " a", " a"),
        ("never", "\u2581a", " a"),
    ],
)
def test_a_metaspace_round_trip(tiny_json: Json, scheme: str, text: str, expected: str) -> None:
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": False}
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "\u2581": 2}, "merges": []}
    tokenizer = TextTokenizer(define(tiny_json(model=model, pre_tokenizer=metaspace, decoder=metaspace)))
    assert tokenizer.normalize(text) == tokenizer.decode(tokenizer.encode(text)) == expected
