"""The diagnosis: names the one change under which a block would agree, on every kind of model, and breaks on none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from apr.arch.config import TransformerConfig
from apr.model.adapters import tracer
from apr.model.decoder import Decoder
from apr.model.initialise import random_decoder
from apr.stepzero.probe import plain_probe_ids
from apr.stepzero.reference import Reference, record
from apr.train.diagnose import _halved, _interleaved, likely_cause
from apr.workflows.small_models import SMALL_CONFIGS

pytestmark = pytest.mark.usefixtures("one_thread")


def recorded(decoder: Decoder) -> Reference:
    return record(tracer(decoder), plain_probe_ids(decoder.config.vocab_size, 96), grade="B", oracle="a test")


def sharp(config: TransformerConfig) -> Decoder:
    """Random weights with attention that a fault in it shows in."""
    decoder = random_decoder(config, 0)
    with torch.no_grad():
        for value in decoder.parameters():
            value.mul_(3) if value.dim() > 1 else value.add_(0.1 * torch.randn(value.shape))
    return decoder


@pytest.mark.parametrize("config", SMALL_CONFIGS.values(), ids=SMALL_CONFIGS)
@pytest.mark.parametrize("block", ["embedding", "block.0", "block.1"])
def test_no_model_breaks_it_and_it_leaves_none_changed(config: TransformerConfig, block: str) -> None:
    decoder = sharp(config)
    reference = recorded(decoder)
    names = [item["name"] for item in reference.blocks]
    block = block if block in names else names[0]
    before = {name: value.clone() for name, value in decoder.named_parameters()}
    spoilt = replace(
        reference,
        blocks=tuple({**b, "std": b["std"] * 2, "mean": b["mean"] + 9} for b in reference.blocks),
    )
    likely_cause(decoder, spoilt, block)
    assert all(torch.equal(value, before[name]) for name, value in decoder.named_parameters())
    assert recorded(decoder) == reference


def _rows(change: Callable[[torch.Tensor], torch.Tensor], *letters: str) -> Callable[[Decoder], None]:
    def spoil(decoder: Decoder) -> None:
        attention = decoder.model.layers[0].self_attn
        for letter in letters:
            weight = getattr(attention, f"{letter}_proj").weight
            heads = weight.view(-1, decoder.config.head_dim, weight.shape[1])
            weight.copy_(change(heads).reshape(weight.shape))

    return spoil


def _eps(decoder: Decoder) -> None:
    for part in decoder.modules():
        if hasattr(part, "eps"):
            part.eps = 1e-5 if part.eps < 1e-5 else 1e-6


def _minus_one(decoder: Decoder) -> None:
    decoder.model.layers[0].input_layernorm.weight.sub_(1)


def _base(decoder: Decoder) -> None:
    decoder.config = replace(decoder.config, rope_theta=123.0)
    decoder.forget_rope()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_base, ("rope base", "10,000")),
        (_rows(_interleaved, "q", "k"), ("rows of q and k", "out of GGUF")),
        (_rows(_halved, "k"), ("rows of k", "in GGUF")),
        (_minus_one, ("1 added", "input_layernorm")),
    ],
)
def test_a_cause_is_named(spoil: Callable[[Decoder], None], words: tuple[str, ...]) -> None:
    decoder = sharp(replace(SMALL_CONFIGS["llama-tied"], rope_theta=1e4))
    reference = recorded(decoder)
    with torch.no_grad():
        spoil(decoder)
    cause = likely_cause(decoder, reference, "block.0")
    for word in words:
        assert word in cause
