"""An engine is taken when it gives the reference's ids for every hard text, and not otherwise."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from apr.base.errors import BadOption
from apr.convert.gguf_tokenizer import definition_from_gguf
from apr.tokenizer import engine_choice
from apr.tokenizer.audited import AUDITED_SHARE
from apr.tokenizer.definition import TokenizerDefinition
from apr.tokenizer.engine import TextTokenizer
from apr.tokenizer.engine_choice import ENGINES, choose_engine
from apr.tokenizer.errors import EngineDiffers, EngineMissing, EngineRefuses
from apr.tokenizer.hard_texts import hard_texts
from tokenizer.engines import Defective

Fields = Callable[..., dict[str, Any]]

DEFECTS: dict[str, Callable[[str], bool]] = {
    "NUL ends a text": lambda text: "\0" in text,
    "two spaces before a word": lambda text: "  a" in text,
    "CRLF is one character": lambda text: "\r\n" in text,
    "a number of another script": lambda text: "\u0661" in text,
    "numbers of Unicode 17": lambda text: "a\U00011de0" in text,
    "a separator that was a space": lambda text: " \u180e" in text,
    "a superscript is a number": lambda text: "\u00b2" in text,
    "no-break space": lambda text: "\u00a0" in text,
    "a contraction in capitals": lambda text: "'RE" in text,
    "a contraction with a long s": lambda text: "'\u017f" in text,
    "combining marks in another order": lambda text: "\u0307\u0323" in text,
    "emoji sequences": lambda text: "\u200d\U0001f525" in text,
    "an added token in text": lambda text: "a<tool>b" in text,
    "half an added token": lambda text: re.search(r"<tool(?!>)", text) is not None,
    "a long run of spaces": lambda text: " " * 1024 in text,
    "a long word": lambda text: "a" * 1024 in text,
    "a text of several chunks": lambda text: len(text) > 1 << 16,
    "a script": lambda text: "\u0e01" in text,
    "the last plane": lambda text: any(ord(character) > 0xF0000 for character in text),
    "the empty text": lambda text: not text,
}


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], bool]], None]:
    """Put a defective engine in the place of all fast ones."""

    def plant(is_wrong: Callable[[str], bool]) -> None:
        engines = {"fastokens": lambda reference: Defective(reference, is_wrong)}
        monkeypatch.setattr(engine_choice, "FAST_ENGINES", engines)

    return plant


def test_the_fast_engine_is_taken(tiny_definition: TokenizerDefinition) -> None:
    chosen = choose_engine(tiny_definition)
    assert (chosen.tokenizer.engine.name, chosen.passed_over) == ("fastokens", None)
    assert chosen.tokenizer.engine.audited_share == AUDITED_SHARE


def test_the_reference_can_be_named(tiny_definition: TokenizerDefinition) -> None:
    chosen = choose_engine(tiny_definition, "hf")
    assert isinstance(chosen.tokenizer, TextTokenizer)
    assert (chosen.tokenizer.engine.name, chosen.tokenizer.engine.audited_share) == ("hf", 1.0)


def test_another_name_is_refused(tiny_definition: TokenizerDefinition) -> None:
    with pytest.raises(BadOption) as caught:
        choose_engine(tiny_definition, "fastoken")
    assert caught.value.limit == ", ".join(ENGINES)


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_suite_holds_a_text_for_a_defect(defect: str) -> None:
    assert any(DEFECTS[defect](text) for text in hard_texts(["<tool>"]))


@pytest.mark.parametrize("defect", ["an added token in text", "the empty text"])
def test_a_named_engine_with_a_defect_is_refused(
    tiny_definition: TokenizerDefinition, planted: Callable[..., None], defect: str
) -> None:
    planted(DEFECTS[defect])
    with pytest.raises(EngineDiffers) as caught:
        choose_engine(tiny_definition, "fastokens")
    assert caught.value.where == "a text of the suite"


def test_auto_passes_a_defective_engine_over(
    tiny_definition: TokenizerDefinition, planted: Callable[..., None]
) -> None:
    planted(DEFECTS["NUL ends a text"])
    chosen = choose_engine(tiny_definition, "auto")
    assert isinstance(chosen.tokenizer, TextTokenizer)
    assert isinstance(chosen.passed_over, EngineDiffers)


def test_an_engine_without_a_defect_passes(
    tiny_definition: TokenizerDefinition, planted: Callable[..., None]
) -> None:
    planted(lambda text: False)
    assert choose_engine(tiny_definition, "auto").tokenizer.engine.name == "defective"


def test_an_engine_that_is_not_installed(
    tiny_definition: TokenizerDefinition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fastokens", None)
    with pytest.raises(EngineMissing):
        choose_engine(tiny_definition, "fastokens")
    assert isinstance(choose_engine(tiny_definition).passed_over, EngineMissing)


def test_a_tokenizer_that_the_engine_does_not_take(tiny_definition: TokenizerDefinition) -> None:
    document = json.loads(tiny_definition.json_text)
    document["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": r"\K("}, "behavior": "Isolated"}
    broken = replace(tiny_definition, json_text=json.dumps({**document, "normalizer": {"type": "Nmt"}}))
    del document["pre_tokenizer"]
    unusual = replace(broken, json_text=json.dumps({**document, "normalizer": {"type": "Nmt"}}))
    with pytest.raises(EngineRefuses):
        choose_engine(unusual, "fastokens")
    chosen = choose_engine(unusual)
    assert (chosen.tokenizer.engine.name, type(chosen.passed_over)) == ("hf", EngineRefuses)


def test_every_kind_of_pre_tokenizer_is_encoded_exactly(byte_level_fields: Fields) -> None:
    for name in ("gpt-2", "smollm", "llama-bpe", "qwen2"):
        chosen = choose_engine(definition_from_gguf(byte_level_fields(pre=name)))
        assert (name, chosen.passed_over) == (name, None)
