"""Our decoder against the transformers library, on tiny random models: logits and gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from apr.arch.config import RopeScaling, TransformerConfig
from apr.arch.inventory import HEAD
from apr.model.decoder import Decoder
from apr.model.loss import next_token_loss
from apr.stepzero.oracle import build_transformers_model
from tiny import CONFIG, make_weights

pytestmark = pytest.mark.usefixtures("one_thread")
LLAMA31 = RopeScaling(
    rope_type="llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=8192,
)
LINEAR = RopeScaling(rope_type="linear", factor=4.0)
# The published lengths cover all three bands of llama3 only with a base and a width like the published ones.
LONG = {"rope_theta": 5e5, "head_dim": 64, "max_position_embeddings": 131072}
CASES: dict[str, dict[str, Any]] = {
    "llama tied 2:1": {},
    "llama untied 1:1": {"num_key_value_heads": 4, "tie_word_embeddings": False},
    "llama tied 9:3": {"num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 144},
    "llama head_dim above hidden/heads": {"head_dim": 24},
    "llama untied head_dim below hidden/heads": {"head_dim": 8, "tie_word_embeddings": False},
    "llama linear": {"rope_scaling": LINEAR},
    "llama llama3": {"rope_scaling": LLAMA31, **LONG},
    "qwen2 tied 7:1": {"num_attention_heads": 7, "num_key_value_heads": 1, "hidden_size": 112},
    "qwen2 untied 14:2": {
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "hidden_size": 112,
        "head_dim": 8,
        "tie_word_embeddings": False,
    },
    "qwen2 linear, another theta and eps": {"rope_scaling": LINEAR, "rope_theta": 1e6, "rms_norm_eps": 1e-3},
}


def config_of(case: str) -> TransformerConfig:
    qwen = case.startswith("qwen2")
    family = {"family": "qwen2", "attention_bias": True} if qwen else {}
    return replace(CONFIG, **family, **CASES[case])


def filled(config: TransformerConfig) -> tuple[Decoder, Any]:
    """Our decoder and theirs with the same weights."""
    weights = make_weights(config)
    ours = Decoder(config)
    ours.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()}, strict=True)
    return ours, build_transformers_model(config, weights)


def tokens(length: int = 48) -> torch.Tensor:
    return torch.randint(0, CONFIG.vocab_size, (2, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("case", CASES)
def test_logits_and_gradients_are_theirs(case: str) -> None:
    ours, theirs = filled(config_of(case))
    ids = tokens()
    targets = torch.cat([ids[:, 1:], torch.full((2, 1), -100)], dim=1)
    logits = theirs(ids, use_cache=False).logits
    assert (ours(ids) - logits).abs().max().item() <= 1e-5

    loss = next_token_loss(ours.hidden(ids), ours.head_weight, targets, 1.0 / 94)
    reference = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert loss.item() == pytest.approx(reference.item(), abs=1e-6)
    loss.backward()
    reference.backward()
    gradients = {name: value.grad for name, value in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradients.pop(name), atol=1e-6, rtol=1e-4, msg=name)
    assert not gradients.keys() - {HEAD}


def test_scaling_changes_the_logits() -> None:
    """Else the cases above would compare nothing: the scaled frequencies must matter at this length."""
    weights = make_weights(config_of("llama llama3"))
    logits = []
    for scaling in (None, LLAMA31, LINEAR):
        decoder = Decoder(replace(config_of("llama llama3"), rope_scaling=scaling))
        decoder.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        logits.append(decoder(tokens()))
    assert all((a - b).abs().max().item() > 1e-4 for a, b in ((logits[0], logits[1]), (logits[1], logits[2])))


def test_bf16_stays_near_fp32() -> None:
    ours, _ = filled(config_of("qwen2 tied 7:1"))
    with torch.no_grad():
        wide, narrow = ours(tokens()), ours(tokens(), dtype=torch.bfloat16)
    assert narrow.dtype == torch.bfloat16
    assert float((wide - narrow.float()).abs().max()) < 0.05 * float(wide.abs().max())
    assert all(parameter.dtype == torch.float32 for parameter in ours.parameters())


def test_a_tied_head_is_no_parameter() -> None:
    decoder = Decoder(CONFIG)
    assert HEAD not in dict(decoder.named_parameters())
    assert decoder.head_weight is decoder.model.embed_tokens.weight
