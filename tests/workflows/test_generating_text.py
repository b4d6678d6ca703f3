"""`apr run`: text as it comes, ids that spell something, an end where the model says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apr.arch.inventory import EMBEDDING, HEAD
from apr.base.errors import BadOption
from apr.model.errors import SequenceTooLong
from apr.tokenizer.engine import TextTokenizer
from apr.workflows.generating import generate_text
from tiny import CONFIG, make_model, make_tokenizer, make_weights

pytestmark = pytest.mark.usefixtures("one_thread")
UNTIED = replace(CONFIG, tie_word_embeddings=False)


def model_that_says(path: Path, wanted: dict[int, float], **changes: Any) -> Path:
    """A model whose logits are the same everywhere: those given, and below them the rest."""
    config = replace(UNTIED, **changes)
    weights = make_weights(config)
    for name in weights:
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weights[name][:] = 0
    weights[EMBEDDING][:] = 1.0  # every hidden state is then the norm's weight
    weights["model.norm.weight"][:] = 1.0
    weights[HEAD][:] = -1.0
    for token, size in wanted.items():
        weights[HEAD][token] = size
    return make_model(path, config, weights=weights, oracle="none")


def test_the_text_is_that_of_the_ids_and_arrives_in_pieces(tiny_apr: Path) -> None:
    pieces: list[str] = []
    found = generate_text(tiny_apr, "the river", max_new_tokens=12, temperature=1.0, on_text=pieces.append)
    assert found["text"] == TextTokenizer(make_tokenizer()).decode(found["token_ids"])
    assert "".join(pieces) == found["text"]
    assert len(pieces) > 1


def test_a_seed_gives_the_same_text(tiny_apr: Path) -> None:
    def sample(seed: int) -> dict[str, Any]:
        return generate_text(tiny_apr, "the", max_new_tokens=12, temperature=1.0, seed=seed)

    assert sample(1) == sample(1) != sample(2)


def test_the_end_of_text_ends_it(tmp_path: Path) -> None:
    found = generate_text(model_that_says(tmp_path / "m.apr", {0: 1.0}), "the", max_new_tokens=5)
    assert found == {"text": "", "token_ids": []}


def test_a_character_of_several_tokens_comes_whole(tmp_path: Path) -> None:
    """The first byte of a character, over and over: never whole, so said once, at the end."""
    first_byte = TextTokenizer(make_tokenizer()).encode("\u4e2d")[0]
    pieces: list[str] = []
    path = model_that_says(tmp_path / "m.apr", {first_byte: 1.0})
    found = generate_text(path, "the", max_new_tokens=3, on_text=pieces.append)
    assert found["token_ids"] == [first_byte] * 3
    assert pieces == [found["text"]]


def test_rows_without_a_token_are_never_chosen(tmp_path: Path) -> None:
    """An embedding padded beyond its tokenizer: ids 320 and above spell nothing."""
    path = model_that_says(tmp_path / "m.apr", {400: 5.0, 65: 1.0}, vocab_size=448)
    assert generate_text(path, "the", max_new_tokens=2)["token_ids"] == [65, 65]
    sampled = generate_text(path, "the", max_new_tokens=50, temperature=2.0)["token_ids"]
    assert max(sampled, default=0) < 320


@pytest.mark.parametrize(("limit_name"), ["max_position_embeddings", "sliding_window"])
def test_a_continuation_beyond_the_model_is_refused_before_it_begins(tmp_path: Path, limit_name: str) -> None:
    path = make_model(tmp_path / "m.apr", replace(CONFIG, **{limit_name: 16}), oracle="none")
    pieces: list[str] = []
    num_prompt = len(TextTokenizer(make_tokenizer()).encode("the river"))
    assert len(generate_text(path, "the river", max_new_tokens=16 - num_prompt)["token_ids"]) <= 16
    with pytest.raises(SequenceTooLong) as caught:
        generate_text(path, "the river", max_new_tokens=17 - num_prompt, on_text=pieces.append)
    assert caught.value.facts == {"length": 17, "limit_name": limit_name, "limit": 16}
    assert not pieces


@pytest.mark.parametrize(
    ("prompt", "options"),
    [("", {}), ("x", {"max_new_tokens": 0}), ("x", {"temperature": -1.0}), ("x", {"temperature": np.inf})],
)
def test_options_that_cannot_be_are_refused(tiny_apr: Path, prompt: str, options: dict[str, Any]) -> None:
    with pytest.raises(BadOption):
        generate_text(tiny_apr, prompt, **options)
