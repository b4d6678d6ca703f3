"""A difference in a sampled document ends the encoding, and no batch is without one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apr.tokenizer.audited import AUDITED_SHARE, EXCERPT_CHARACTERS, AuditedTokenizer, audited
from apr.tokenizer.definition import TokenizerDefinition
from apr.tokenizer.engine import TextTokenizer, Tokenizer
from apr.tokenizer.errors import EngineDiffers
from tokenizer.engines import Defective


@pytest.fixture(scope="module")
def reference(tiny_definition: TokenizerDefinition) -> TextTokenizer:
    return TextTokenizer(tiny_definition)


def watched(reference: TextTokenizer, is_wrong: Callable[[str], bool]) -> AuditedTokenizer:
    return AuditedTokenizer(reference, Defective(reference, is_wrong))


def test_it_meets_the_protocol(reference: TextTokenizer) -> None:
    tokenizer: Tokenizer = watched(reference, lambda text: False)
    assert (tokenizer.vocab_size, tokenizer.max_id, tokenizer.unknown_id) == (268, 267, None)
    assert (tokenizer.engine.name, tokenizer.engine.version) == ("defective", "9")
    assert tokenizer.normalization == reference.normalization
    text = "the 12<tool>"
    assert tokenizer.decode(tokenizer.encode_batch([text])[0]) == tokenizer.normalize(text) == text
    assert tokenizer.encode(text) == reference.encode(text)


def test_the_stated_share_is_compared() -> None:
    texts = [f"document {number}" for number in range(20_000)]
    share = len(audited(texts)) / len(texts)
    assert share == pytest.approx(AUDITED_SHARE, rel=0.2)


def test_the_sample_follows_from_the_text_alone() -> None:
    texts = [f"document {number}" for number in range(2_000)]
    chosen = {texts[index] for index in audited(texts)}
    backwards = texts[::-1]
    assert {backwards[index] for index in audited(backwards)} == chosen


@given(texts=st.lists(st.text(max_size=3), min_size=1, max_size=4))
def test_no_batch_goes_unseen(texts: list[str]) -> None:
    assert audited(texts)


def test_an_empty_batch_is_none(reference: TextTokenizer) -> None:
    assert audited([]) == []
    assert list(watched(reference, lambda text: True).encode_batch([])) == []


def test_a_wrong_document_of_the_sample_is_found(reference: TextTokenizer) -> None:
    texts = [f"document {number} the" for number in range(500)]
    sampled = audited(texts)
    for index in sampled:
        with pytest.raises(EngineDiffers) as caught:
            watched(reference, lambda text, wrong=texts[index]: text == wrong).encode_batch(texts)
        assert caught.value.where == "a document of the corpus"
        assert caught.value.engine == "defective"
    tokenizer = watched(reference, lambda text: False)
    tokenizer.encode_batch(texts)
    assert (tokenizer.num_documents, tokenizer.num_audited) == (500, len(sampled))


def test_the_first_token_that_differs_is_named(reference: TextTokenizer) -> None:
    with pytest.raises(EngineDiffers) as caught:
        watched(reference, lambda text: True).encode_batch(["the 12"])
    right = reference.encode("the 12")
    assert caught.value.position == len(right) - 1
    assert (caught.value.expected, caught.value.found) == (str(right[-1:]), "[]")


def test_of_a_long_document_an_excerpt_is_compared(reference: TextTokenizer) -> None:
    long = "the 12 " * EXCERPT_CHARACTERS
    seen: list[int] = []

    def note(text: str) -> bool:
        seen.append(len(text))
        return False

    watched(reference, note).encode_batch([long])
    assert seen == [len(long), EXCERPT_CHARACTERS]
    with pytest.raises(EngineDiffers):
        watched(reference, lambda text: len(text) == EXCERPT_CHARACTERS).encode_batch([long])
