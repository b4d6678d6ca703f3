"""A respelled pre-tokenizer splits as the original does, in the reference itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from apr.tokenizer.hard_texts import hard_texts
from apr.tokenizer.respelled import DISPUTED, respelled

DIGITS = {"type": "Digits", "individual_digits": True}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
ORIGINALS = {
    "bytes": BYTE_LEVEL,
    "digits": {"type": "Sequence", "pretokenizers": [DIGITS, BYTE_LEVEL]},
}
OTHERS = [
    None,
    {"type": "Sequence", "pretokenizers": [{**DIGITS, "individual_digits": False}, BYTE_LEVEL]},
    {"type": "Sequence", "pretokenizers": [BYTE_LEVEL, DIGITS]},
    {**BYTE_LEVEL, "add_prefix_space": True},
    {**BYTE_LEVEL, "use_regex": False},
    {"type": "ByteLevel"},  # the format puts a prefix space then
    {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
]
KNOWN = st.characters(exclude_categories=["Cs"], exclude_characters="".join(DISPUTED))
TEXTS = st.text(KNOWN) | st.text(" \n\t\u00a0'stlvemrd1\u0661\u00b2a\u0301-")


def document(pre_tokenizer: Any) -> str:
    values = json.loads(Tokenizer(models.BPE()).to_str())
    return json.dumps({**values, "pre_tokenizer": pre_tokenizer})


def splitters(name: str) -> tuple[Any, Any]:
    original = document(ORIGINALS[name])
    assert respelled(original) != original
    return Tokenizer.from_str(original).pre_tokenizer, Tokenizer.from_str(respelled(original)).pre_tokenizer


@pytest.mark.parametrize("name", ORIGINALS)
@given(text=TEXTS)
def test_any_text_is_split_alike(name: str, text: str) -> None:
    left, right = splitters(name)
    assert right.pre_tokenize_str(text) == left.pre_tokenize_str(text)


@pytest.mark.parametrize("name", ORIGINALS)
def test_every_hard_text_is_split_alike(name: str) -> None:
    left, right = splitters(name)
    texts = [text for text in hard_texts([]) if len(text) < 1000 and not set(text) & set(DISPUTED)]
    assert [text for text in texts if left.pre_tokenize_str(text) != right.pre_tokenize_str(text)] == []


@pytest.mark.parametrize("pre_tokenizer", OTHERS)
def test_any_other_stays_as_it_is(pre_tokenizer: Any) -> None:
    assert respelled(document(pre_tokenizer)) == document(pre_tokenizer)
