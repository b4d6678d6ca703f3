"""The fast engine beside HF tokenizers on real vocabularies: the suite, every character, and real text."""

from __future__ import annotations

import sysconfig
from itertools import islice
from pathlib import Path

import pytest

from apr.convert.gguf_source import read_gguf_tokenizer
from apr.tokenizer.differential import require_equal
from apr.tokenizer.engine import TextTokenizer
from apr.tokenizer.engine_choice import choose_engine
from apr.tokenizer.fastokens_engine import FastokensEngine
from apr.tokenizer.hard_texts import hard_texts

Pair = tuple[FastokensEngine, TextTokenizer]
CHARACTERS = range(0x110000)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("smollm2_gguf", marks=pytest.mark.smollm, id="SmolLM2"),
        pytest.param("qwen_gguf", marks=pytest.mark.live, id="Qwen2.5"),
    ],
)
def pair(request: pytest.FixtureRequest) -> Pair:
    reference = TextTokenizer(read_gguf_tokenizer(request.getfixturevalue(request.param), None))
    return FastokensEngine(reference), reference


def test_it_is_chosen(pair: Pair) -> None:
    chosen = choose_engine(pair[1].definition)
    assert (chosen.tokenizer.engine.name, chosen.passed_over) == ("fastokens", None)


def test_hard_texts_in_batches_of_any_size(pair: Pair) -> None:
    texts = hard_texts(["<|im_end|>", "<|endoftext|>"])
    require_equal(*pair, texts[-40:], where="in one batch")
    for text in texts[-40:]:
        require_equal(*pair, [text], where="alone")


def test_every_character(pair: Pair) -> None:
    plain = [chr(code) for code in CHARACTERS if not 0xD800 <= code < 0xE000]
    texts = [
        "".join(f"a{c} {c}{c} " for c in plain[start : start + 500]) for start in range(0, len(plain), 500)
    ]
    require_equal(*pair, texts, where="every character")


def test_the_standard_library(pair: Pair) -> None:
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    texts = [path.read_text(encoding="utf-8") for path in islice(paths, 60)]
    require_equal(*pair, texts, where="source")
    require_equal(*pair, ["".join(texts)], where="one long text")
