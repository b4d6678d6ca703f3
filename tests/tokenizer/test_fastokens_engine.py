"""fastokens gives the reference's ids for whatever text, and what it refuses is left to the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apr.convert.gguf_tokenizer import PRE_TOKENIZERS, definition_from_gguf
from apr.tokenizer.alphabet import byte_symbols
from apr.tokenizer.engine import TextTokenizer
from apr.tokenizer.errors import EngineRefuses, TextNotUnicode
from apr.tokenizer.fastokens_engine import FastokensEngine

Fields = Callable[..., dict[str, Any]]
Pair = tuple[FastokensEngine, TextTokenizer]
NEAR_BORDERS = " \t\r\n\u00a0\u3000'sSrReEtdT01\u0661\u00b2a\u00e9e\u0301\u017f\u4e2d<|>tol."
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.text(NEAR_BORDERS, max_size=40)


def pair_of(fields: dict[str, Any]) -> Pair:
    reference = TextTokenizer(definition_from_gguf(fields))
    return FastokensEngine(reference), reference


@pytest.fixture(scope="module")
def pairs(byte_level_fields: Fields) -> dict[str, Pair]:
    return {name: pair_of(byte_level_fields(pre=name)) for name in PRE_TOKENIZERS}


def lists(rows: Any) -> list[list[int]]:
    return [[int(token_id) for token_id in row] for row in rows]


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
@given(texts=st.lists(TEXTS, max_size=6))
def test_ids_are_the_references(pairs: dict[str, Pair], name: str, texts: list[str]) -> None:
    engine, reference = pairs[name]
    assert lists(engine.encode_batch(texts)) == reference.encode_batch(texts)


def test_ids_are_arrays_of_u32(pairs: dict[str, Pair]) -> None:
    found = pairs["smollm"][0].encode_batch(["the 12", "", "er"])
    assert [ids.dtype for ids in found] == [np.dtype(np.uint32)] * 3
    assert [len(ids) for ids in found][1] == 0
    assert pairs["smollm"][0].encode_batch([]) == []


def test_texts_with_bytes_that_the_vocabulary_lacks_are_the_references(byte_level_fields: Fields) -> None:
    tokens = byte_level_fields()["tokenizer.ggml.tokens"]
    for byte in (0x04, 0xF1):
        tokens[tokens.index(byte_symbols()[byte])] = f"spare{byte}"
    engine, reference = pair_of(byte_level_fields(tokens=tokens))
    texts = ["the", "a\x04b", "12 12", "\U00050000", "er"]
    assert lists(engine.encode_batch(texts)) == reference.encode_batch(texts)


def test_a_lone_surrogate_is_refused_with_its_place(pairs: dict[str, Pair]) -> None:
    with pytest.raises(TextNotUnicode) as caught:
        pairs["smollm"][0].encode_batch(["fine", "\ud800"])
    assert caught.value.index == 1


class Panics:
    """What a native library raises when it panics: no Exception."""

    class PanicException(BaseException):
        pass

    def encode_batch_flat(self, texts: list[str]) -> Any:
        raise self.PanicException("index out of bounds")


def test_a_panic_is_a_refusal(byte_level_fields: Fields, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _ = pair_of(byte_level_fields())
    monkeypatch.setattr(engine, "_engine", Panics())
    with pytest.raises(EngineRefuses) as caught:
        engine.encode_batch(["a"])
    assert caught.value.reason == "index out of bounds"
