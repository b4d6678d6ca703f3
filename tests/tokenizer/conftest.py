"""Tiny tokenizers, made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from apr.convert.gguf_tokenizer import definition_from_gguf
from apr.tokenizer.alphabet import byte_symbols
from apr.tokenizer.definition import TokenizerDefinition

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
MERGES = ["\u0120 t", "t h", "\u0120t h", "h e", "\u0120th e", "1 2", "\u0120 1", "\u0120 \u0120", "e r"]
ADDED = [
    ("<|endoftext|>", CONTROL),
    ("<|im_end|>", CONTROL),
    ("<tool>", USER_DEFINED),
    ("[PAD268]", UNUSED),
    ("[PAD269]", UNUSED),
]


@pytest.fixture(scope="session")
def byte_level_fields() -> Callable[..., dict[str, Any]]:
    """A factory of GGUF fields with 256 byte symbols (ids 0..255), the merges and the added tokens."""

    def make(**changes: Any) -> dict[str, Any]:
        tokens = [*byte_symbols(), *(merge.replace(" ", "") for merge in MERGES)]
        fields = {
            "general.architecture": "llama",
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "smollm",
            "tokenizer.ggml.tokens": tokens + [text for text, _ in ADDED],
            "tokenizer.ggml.token_type": [NORMAL] * len(tokens) + [kind for _, kind in ADDED],
            "tokenizer.ggml.merges": list(MERGES),
            "tokenizer.ggml.bos_token_id": 265,
            "tokenizer.ggml.eos_token_id": 266,
        }
        fields.update({f"tokenizer.ggml.{name}": value for name, value in changes.items()})
        return {name: value for name, value in fields.items() if value is not None}

    return make


@pytest.fixture(scope="session")
def tiny_definition(byte_level_fields: Callable[..., dict[str, Any]]) -> TokenizerDefinition:
    """`<|endoftext|>` is 265, `<|im_end|>` (the declared eos) 266, `<tool>` 267."""
    return definition_from_gguf(byte_level_fields())


@pytest.fixture(scope="session")
def tiny_json() -> Callable[..., str]:
    """A factory of tokenizer.json texts: letters a to d, and the added tokens given as (text, special)."""

    def make(*added: tuple[str, bool], **parts: Any) -> str:
        options = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        entries = [
            {"id": 4 + index, "content": text, "special": special, **options}
            for index, (text, special) in enumerate(added)
        ]
        model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "d": 3}, "merges": []}
        document = {"version": "1.0", "added_tokens": entries, "model": model, **parts}
        return json.dumps(document)

    return make
