"""`apr eval`: every token predicted once, whatever the window, and bytes that are those of the text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from apr.aprfile.reader import open_apr
from apr.base.errors import BadOption
from apr.data.shards import open_dataset
from apr.model.load import load_decoder
from apr.tokenizer.engine import TextTokenizer
from apr.train.errors import TokenizerMismatch
from apr.workflows.evaluating import evaluate_model
from tiny import CONFIG, make_model, make_shards, make_tokenizer, words

pytestmark = pytest.mark.usefixtures("one_thread")


def evaluate(path: Path, **options: Any) -> dict[str, Any]:
    return evaluate_model(path, device="cpu", **options)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.txt").write_text(words(number))
    return folder


@pytest.mark.parametrize("seq_length", [1, 7, 64, 512])
def test_every_token_but_the_first_is_predicted_once(tiny_apr: Path, texts: Path, seq_length: int) -> None:
    tokenizer = TextTokenizer(make_tokenizer())
    ids: list[int] = []
    for number in range(3):  # documents are separated, and the separator is predicted too
        ids += ([0] if ids else []) + tokenizer.encode(words(number))
    found = evaluate(tiny_apr, text=texts, seq_length=seq_length)
    assert found["num_tokens"] == len(ids) - 1

    with open_apr(tiny_apr) as file:
        decoder = load_decoder(file).decoder
    losses = []
    for start in range(0, len(ids) - 1, seq_length):
        piece = torch.tensor([ids[start : start + seq_length + 1]])
        with torch.no_grad():
            logits = decoder(piece[:, :-1])[0]
        losses += torch.nn.functional.cross_entropy(logits, piece[0, 1:], reduction="none").tolist()
    assert found["loss"] == pytest.approx(sum(losses) / len(losses), abs=1e-5)


def test_bits_are_per_byte_of_the_text(tiny_apr: Path, tmp_path: Path) -> None:
    text = "the river holds 31 \u00e9\u4e2d\u6587\n"
    (tmp_path / "x.txt").write_text(text, encoding="utf-8")
    found = evaluate(tiny_apr, text=tmp_path / "x.txt")
    first = TextTokenizer(make_tokenizer()).encode(text)[:1]
    num_bytes = len(text.encode()) - len(TextTokenizer(make_tokenizer()).decode(first).encode())
    assert found["num_bytes"] == num_bytes
    assert found["bits_per_byte"] == pytest.approx(
        found["loss"] * found["num_tokens"] / math.log(2) / num_bytes
    )


def test_shards_are_read_from_the_start(tiny_apr: Path, tiny_shards: Path) -> None:
    found = evaluate(tiny_apr, dataset=tiny_shards, max_tokens=99, seq_length=32)
    assert (found["num_tokens"], found["seq_length"]) == (99, 32)
    whole = evaluate(tiny_apr, dataset=tiny_shards / "val", seq_length=64)
    assert whole["num_tokens"] == open_dataset(tiny_shards / "val").total_tokens - 1
    assert evaluate(tiny_apr, dataset=tiny_shards / "val", seq_length=64, max_tokens=10**9) == whole


def test_the_window_is_the_models_limit_at_most(tiny_apr: Path, texts: Path) -> None:
    assert evaluate(tiny_apr, text=texts)["seq_length"] == CONFIG.max_position_embeddings
    with pytest.raises(BadOption) as caught:
        evaluate(tiny_apr, text=texts, seq_length=CONFIG.max_position_embeddings + 1)
    assert caught.value.option == "--seq-length"


@pytest.mark.parametrize(
    "options",
    [{}, {"dataset": "d", "text": "t"}, {"text": "t", "max_tokens": 0}, {"text": "t", "seq_length": 0}],
)
def test_options_that_cannot_be_are_refused(tiny_apr: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    (tmp_path / "t").write_text("some text")
    paths = {key: tmp_path / value if isinstance(value, str) else value for key, value in options.items()}
    with pytest.raises(BadOption):
        evaluate(tiny_apr, **paths)


def test_a_text_of_one_token_is_refused(tiny_apr: Path, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("a")
    with pytest.raises(BadOption):
        evaluate(tiny_apr, text=tmp_path / "x.txt")


def test_shards_of_another_tokenizer_are_refused(tmp_path: Path, tiny_apr: Path) -> None:
    shards = make_shards(tmp_path / "shards", make_tokenizer(300), documents=20)
    with pytest.raises(TokenizerMismatch):
        evaluate(tiny_apr, dataset=shards)


def test_bf16_is_near_fp32(tmp_path: Path, texts: Path) -> None:
    path = make_model(tmp_path / "m.apr", oracle="none")
    losses = [evaluate(path, text=texts, dtype=dtype)["loss"] for dtype in ("fp32", "bf16")]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], abs=0.01)
