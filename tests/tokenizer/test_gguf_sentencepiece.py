"""SentencePiece vocabularies, against sentencepiece itself and against transformers' conversion."""

from __future__ import annotations

import functools
import io
import json
import random
from typing import Any

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from transformers.tokenization_utils_base import generate_merges as reference

from apr.convert.gguf_tokenizer import definition_from_gguf
from apr.tokenizer.engine import TextTokenizer
from apr.tokenizer.errors import GgufTokenizerFieldBad, GgufTokenizerFieldMissing, GgufTokenizerInexact

LETTERS = "aabcdeeeeghinnorsttu\u00e9\u00ef"
# What SentencePiece reads as the mark or skips, and what a tokenizer.json reads as an added token.
PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\u2581\x00<"), max_size=60)


def corpus() -> list[str]:
    rng = random.Random(7)
    words = ["".join(rng.choices(LETTERS, k=rng.randint(1, 7))) for _ in range(200)]
    return [
        " " * rng.randrange(5) + " ".join(rng.choices(words, k=8)) + f" {rng.randrange(999)}"
        for _ in range(400)
    ]


@functools.cache
def train(*, prefix: bool = True, byte_fallback: bool = True, kind: str = "bpe") -> Any:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()),
        model_writer=model,
        model_type=kind,
        vocab_size=420 if byte_fallback else 100,
        byte_fallback=byte_fallback,
        add_dummy_prefix=prefix,
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        normalization_rule_name="identity",
        minloglevel=2,
        num_threads=1,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def kind_of(model: Any, token_id: int) -> int:
    kinds = {2: model.is_unknown, 3: model.is_control, 5: model.is_unused, 6: model.is_byte}
    return next((kind for kind, is_kind in kinds.items() if is_kind(token_id)), 1)


def gguf_fields(model: Any, **changes: Any) -> dict[str, Any]:
    ids = range(model.vocab_size())
    fields = {
        "model": "llama",
        "tokens": [model.id_to_piece(token_id) for token_id in ids],
        "scores": [model.get_score(token_id) for token_id in ids],
        "token_type": [kind_of(model, token_id) for token_id in ids],
        "bos_token_id": model.bos_id(),
        "eos_token_id": model.eos_id(),
        **changes,
    }
    named = {f"tokenizer.ggml.{name}": value for name, value in fields.items() if value is not None}
    return {"general.architecture": "llama", **named}


def replaced(values: list[Any], value: Any) -> list[Any]:
    """The list with another value for a piece of several characters."""
    return [*values[:300], value, *values[301:]]


@pytest.fixture(scope="module", params=["prefix", "no prefix", "no bytes"])
def pair(request: pytest.FixtureRequest) -> tuple[Any, TextTokenizer]:
    prefix = request.param != "no prefix"
    model = train(prefix=prefix, byte_fallback=request.param != "no bytes")
    return model, TextTokenizer(definition_from_gguf(gguf_fields(model, add_space_prefix=prefix)))


@pytest.fixture(scope="module")
def model() -> Any:
    return train()


def test_trained_text_has_the_same_ids(pair: tuple[Any, TextTokenizer]) -> None:
    reference, ours = pair
    assert ours.encode_batch(corpus()) == [reference.encode(line) for line in corpus()]


@given(text=PLAIN | st.text("thenad \u00e9", max_size=40))
def test_any_text_has_the_same_ids(pair: tuple[Any, TextTokenizer], text: str) -> None:
    reference, ours = pair
    assert ours.encode(text) == reference.encode(text)


@given(text=PLAIN)
def test_with_bytes_any_text_comes_back(pair: tuple[Any, TextTokenizer], text: str) -> None:
    _, ours = pair
    if json.loads(ours.definition.json_text)["model"]["byte_fallback"]:
        assert ours.decode(ours.encode(text)) == ours.normalize(text) == text


def test_special_ids(model: Any) -> None:
    made = definition_from_gguf(gguf_fields(model))
    assert (made.bos_token_id, made.eos_token_id, made.end_of_text_id) == (1, 2, 2)
    assert TextTokenizer(made).unknown_id == 0
    assert TextTokenizer(made).lost_bytes == ()


def test_an_absent_prefix_flag_means_a_prefix(model: Any) -> None:
    absent, present = definition_from_gguf(gguf_fields(model)), gguf_fields(model, add_space_prefix=True)
    assert absent == definition_from_gguf(present)


def test_merges_are_those_of_transformers(model: Any) -> None:
    fields = gguf_fields(model)
    scores = dict(zip(fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.scores"], strict=True))
    special = [
        token for token, kind in zip(scores, fields["tokenizer.ggml.token_type"], strict=True) if kind != 1
    ]
    vocab = {token: index for index, token in enumerate(scores)}
    made = json.loads(definition_from_gguf(fields).json_text)["model"]["merges"]
    assert [tuple(merge) for merge in made] == reference(vocab, scores, special)


def test_added_tokens_of_a_chat_model(model: Any) -> None:
    fields = gguf_fields(model)
    for name, values in {
        "tokens": ["<|user|>", "[PAD421]"],
        "scores": [-1000.0] * 2,
        "token_type": [4, 5],
    }.items():
        fields[f"tokenizer.ggml.{name}"] += values
    ours = TextTokenizer(definition_from_gguf(fields))
    assert (ours.vocab_size, ours.max_id) == (421, 420)
    assert ours.encode("<|user|>")[-1] == 420


@pytest.mark.parametrize("architecture", ["gemma", "phi3", None])
def test_other_architectures_are_refused(model: Any, architecture: str | None) -> None:
    fields = {**gguf_fields(model), "general.architecture": architecture}
    with pytest.raises(GgufTokenizerInexact):
        definition_from_gguf(fields)


def test_a_unigram_model_is_refused() -> None:
    with pytest.raises(GgufTokenizerInexact):
        definition_from_gguf(gguf_fields(train(kind="unigram", byte_fallback=False)))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        pytest.param("scores", lambda values: replaced(values, float("nan")), id="nan"),
        pytest.param("scores", lambda values: replaced(values, -0.5), id="not a rank"),
        pytest.param("scores", lambda values: replaced(values, values[301]), id="tie"),
        pytest.param("tokens", lambda values: replaced(values, "\u4e00\u4e01"), id="strange characters"),
        pytest.param("remove_extra_whitespaces", lambda values: True, id="squeezes spaces"),
        pytest.param("precompiled_charsmap", lambda values: [1, 2], id="normalizes"),
    ],
)
def test_what_the_scores_do_not_determine_is_refused(model: Any, name: str, change: Any) -> None:
    fields = gguf_fields(model)
    key = f"tokenizer.ggml.{name}"
    fields[key] = change(fields.get(key))
    with pytest.raises(GgufTokenizerInexact):
        definition_from_gguf(fields)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("scores", lambda values: values[:-1]),
        ("scores", lambda values: ["0", *values[1:]]),
        ("token_type", lambda values: [1, *values[1:]]),
        ("token_type", lambda values: [2, 2, *values[2:]]),
        ("token_type", lambda values: [*values[:10], 1, *values[11:]]),
        ("token_type", lambda values: [*values[:-1], 5]),
        ("tokens", lambda values: [*values[:10], "<0xzz>", *values[11:]]),
        ("add_space_prefix", lambda values: 1),
    ],
)
def test_a_bad_field_is_refused(model: Any, name: str, change: Any) -> None:
    fields = gguf_fields(model)
    key = f"tokenizer.ggml.{name}"
    fields[key] = change(fields.get(key))
    with pytest.raises(GgufTokenizerFieldBad):
        definition_from_gguf(fields)


def test_scores_are_needed(model: Any) -> None:
    with pytest.raises(GgufTokenizerFieldMissing) as caught:
        definition_from_gguf(gguf_fields(model, scores=None))
    assert caught.value.field == "tokenizer.ggml.scores"
