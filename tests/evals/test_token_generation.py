"""Generation against the transformers library's own, and what ends it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from apr.arch.config import TransformerConfig
from apr.evals.generate import generate
from apr.model.adapters import next_logits
from apr.model.decoder import Decoder
from apr.stepzero.oracle import build_transformers_model
from tiny import CONFIG, QWEN_LIKE, make_weights

pytestmark = pytest.mark.usefixtures("one_thread")
PROMPT = [5, 17, 250, 3]


def counting(ids: Tensor) -> Tensor:
    """A model that wants the id after the last one."""
    logits = torch.zeros(10)
    logits[(int(ids[0, -1]) + 1) % 10] = 1.0
    return logits


@pytest.mark.parametrize("config", [CONFIG, QWEN_LIKE], ids=lambda config: config.family)
def test_greedy_ids_are_transformers(config: TransformerConfig) -> None:
    config = replace(config, tie_word_embeddings=False)  # a tied random model repeats itself
    weights = make_weights(config)
    ours = Decoder(config)
    ours.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    theirs = build_transformers_model(config, weights)
    theirs.generation_config.pad_token_id = 0
    with torch.no_grad():
        wanted = theirs.generate(
            torch.tensor([PROMPT]), max_new_tokens=24, do_sample=False, eos_token_id=None
        )
    found = generate(
        next_logits(ours, capacity=len(PROMPT) + 24, dtype=torch.float32), PROMPT, max_new_tokens=24
    )
    assert found == wanted[0, len(PROMPT) :].tolist()
    assert len(set(found)) > 2  # not one token over and over


@pytest.mark.parametrize(
    ("stop_ids", "wanted"),
    [(frozenset(), [4, 5, 6, 7]), (frozenset({6, 9}), [4, 5]), (frozenset({4}), [])],
)
def test_a_stop_id_ends_it_and_is_not_returned(stop_ids: frozenset[int], wanted: list[int]) -> None:
    told: list[int] = []
    found = generate(counting, [1, 2, 3], max_new_tokens=4, stop_ids=stop_ids, on_token=told.append)
    assert found == told == wanted


def test_the_model_is_given_each_token_once() -> None:
    seen: list[list[int]] = []

    def score(ids: Tensor) -> Tensor:
        seen.append(ids[0].tolist())
        return counting(ids)

    generate(score, [1, 2, 3], max_new_tokens=3)
    assert seen == [[1, 2, 3], [4], [5]]


def test_sampling_follows_seed_and_temperature() -> None:
    def flat(ids: Tensor) -> Tensor:
        return torch.arange(10) / 10

    def sample(seed: int, temperature: float) -> list[int]:
        return generate(flat, [0], max_new_tokens=400, temperature=temperature, seed=seed)

    assert sample(1, 1.0) == sample(1, 1.0) != sample(2, 1.0)
    assert set(sample(1, 1.0)) == set(range(10))
    assert set(sample(1, 0.001)) == {9} == set(sample(1, 0.0))
    share = sample(1, 0.1).count(9) / 400  # of a softmax over 0, 1, ..., 9
    assert share == pytest.approx(0.632, abs=0.08)
