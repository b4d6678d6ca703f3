"""Random weights: by seed and name alone."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from apr.arch.inventory import EMBEDDING, HEAD
from apr.model.decoder import Decoder
from apr.model.initialise import initialise, random_decoder
from tiny import CONFIG, QWEN_LIKE


def weights(decoder: Decoder) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in decoder.named_parameters()}


def equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_a_seed_gives_the_same_weights_and_another_others() -> None:
    torch.manual_seed(1)
    first = weights(random_decoder(CONFIG, 7))
    torch.manual_seed(2)  # the global generator has no part in it
    assert equal(first, weights(random_decoder(CONFIG, 7)))
    assert not equal(first, weights(random_decoder(CONFIG, 8)))


def test_a_tensor_does_not_depend_on_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = weights(random_decoder(CONFIG, 7))
    others = weights(random_decoder(replace(QWEN_LIKE, tie_word_embeddings=False, num_hidden_layers=2), 7))
    assert all(torch.equal(plain[name], others[name]) for name in plain)
    assert not torch.equal(others[HEAD], others[EMBEDDING])

    decoder, names = Decoder(CONFIG), list(Decoder.named_parameters(Decoder(CONFIG)))
    pairs = dict(decoder.named_parameters())
    monkeypatch.setattr(decoder, "named_parameters", lambda: [(n, pairs[n]) for n, _ in reversed(names)])
    initialise(decoder, 7)
    assert all(torch.equal(plain[name], value) for name, value in pairs.items())


def test_sizes_are_those_described() -> None:
    config = replace(QWEN_LIKE, hidden_size=256, num_hidden_layers=8, num_attention_heads=4, head_dim=64)
    for name, value in weights(random_decoder(config, 0)).items():
        if name.endswith("bias"):
            assert not value.any()
        elif value.dim() == 1:
            assert bool((value == 1).all())
        else:
            residual = name.endswith(("o_proj.weight", "down_proj.weight"))
            wanted = 0.02 / math.sqrt(16) if residual else 0.02
            assert float(value.std()) == pytest.approx(wanted, rel=0.03)
            assert abs(float(value.mean())) < 1e-3
