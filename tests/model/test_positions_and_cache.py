"""No position sees a later one, no row another, and a cache changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from apr.arch.config import TransformerConfig
from apr.evals.generate import generate
from apr.model.adapters import next_logits
from apr.model.cache import KVCache
from apr.model.decoder import Decoder
from apr.model.errors import SequenceTooLong
from apr.model.initialise import random_decoder
from tiny import CONFIG, QWEN_LIKE

pytestmark = pytest.mark.usefixtures("one_thread")
LENGTH = 24


@pytest.fixture(params=[CONFIG, QWEN_LIKE, replace(CONFIG, num_key_value_heads=1)])
def decoder(request: pytest.FixtureRequest) -> Decoder:
    made = random_decoder(request.param, seed=3)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(4)
    return made


def tokens(config: TransformerConfig = CONFIG, rows: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, config.vocab_size, (rows, LENGTH), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
@pytest.mark.parametrize("position", [0, 1, 11, LENGTH - 1])
def test_no_position_sees_a_later_one(decoder: Decoder, position: int) -> None:
    ids = tokens()
    changed = ids.clone()
    changed[:, position] = (changed[:, position] + 1) % CONFIG.vocab_size
    before, after = decoder(ids), decoder(changed)
    torch.testing.assert_close(before[:, :position], after[:, :position], atol=0, rtol=0)
    assert not torch.equal(before[:, position], after[:, position])
    assert not torch.equal(before[:, -1], after[:, -1])


@torch.no_grad()
def test_no_row_sees_another(decoder: Decoder) -> None:
    ids = tokens(rows=3)
    changed = ids.clone()
    changed[1] = tokens(rows=1, seed=9)[0]
    before, after = decoder(ids), decoder(changed)
    torch.testing.assert_close(before[[0, 2]], after[[0, 2]], atol=0, rtol=0)
    assert not torch.equal(before[1], after[1])
    torch.testing.assert_close(before[1:2], decoder(ids[1:2]), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("pieces", [(LENGTH,), (1,) * LENGTH, (10, 1, 1, 12), (5, 7, 12)])
def test_a_cache_changes_no_logit(decoder: Decoder, pieces: tuple[int, ...]) -> None:
    ids, whole = tokens(), decoder(tokens())
    cache = KVCache(decoder.config, batch_size=2, capacity=LENGTH, dtype=torch.float32)
    parts = [decoder(piece, cache=cache) for piece in ids.split(pieces, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=2e-4, rtol=1e-5)  # of logits near 30
    assert cache.length == LENGTH


@torch.no_grad()
def test_generation_with_a_cache_is_recomputation(decoder: Decoder) -> None:
    prompt = tokens(rows=1)[0, :5].tolist()
    cached = generate(
        next_logits(decoder, capacity=LENGTH, dtype=torch.float32), prompt, max_new_tokens=LENGTH - 5
    )
    ids = list(prompt)
    for _ in range(LENGTH - 5):
        ids.append(int(decoder(torch.tensor([ids]))[0, -1].argmax()))
    assert cached == ids[5:]


@pytest.mark.parametrize(
    ("changes", "limit_name"),
    [({"max_position_embeddings": 8}, "max_position_embeddings"), ({"sliding_window": 8}, "sliding_window")],
)
def test_a_sequence_beyond_the_model_is_refused(changes: dict[str, int], limit_name: str) -> None:
    decoder = random_decoder(replace(CONFIG, **changes), 0)
    assert decoder(tokens(rows=1)[:, :8]).shape == (1, 8, CONFIG.vocab_size)
    with pytest.raises(SequenceTooLong) as caught:
        decoder(tokens(rows=1)[:, :9])
    assert caught.value.facts == {"length": 9, "limit_name": limit_name, "limit": 8}


@torch.no_grad()
def test_a_long_sequence_after_a_short_one_uses_its_own_angles() -> None:
    decoder = random_decoder(CONFIG, 0)
    ids = tokens(rows=1)
    decoder(ids[:, :3])  # fills the table of angles for three positions
    torch.testing.assert_close(decoder(ids), random_decoder(CONFIG, 0)(ids), atol=0, rtol=0)
