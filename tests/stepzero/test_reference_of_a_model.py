"""The reference: recorded by transformers, met by our decoder, and by no decoder with a fault."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from apr.arch.config import RopeScaling, TransformerConfig
from apr.arch.inventory import EMBEDDING
from apr.model import decoder as decoder_module
from apr.model import rope
from apr.model.adapters import tracer
from apr.model.decoder import Decoder
from apr.stepzero.errors import OracleFailed, ReferenceMalformed, ReferenceNotFinite
from apr.stepzero.figures import block_figures, relative_difference
from apr.stepzero.oracle import record_with_transformers
from apr.stepzero.probe import PROBE_TOKENS, plain_probe_ids, probe_ids, probe_text
from apr.stepzero.reference import (
    BLOCK_TOLERANCE,
    LOSS_TOLERANCE,
    TRAINING_TOLERANCE,
    compare,
    measure,
    parse_reference,
    training_gate,
)
from apr.tokenizer.engine import TextTokenizer
from tiny import CONFIG, QWEN_LIKE, make_tokenizer, make_weights

pytestmark = pytest.mark.usefixtures("one_thread")
LLAMA = replace(CONFIG, rms_norm_eps=1e-5, rope_theta=1e5, tie_word_embeddings=False)
IDS = plain_probe_ids(CONFIG.vocab_size)[:96]
Weights = dict[str, np.ndarray]


def weights_of(config: TransformerConfig) -> Weights:
    weights = make_weights(config)
    for name in weights:
        if "layernorm" not in name and name != "model.norm.weight":
            weights[name] *= 2  # sharp attention: a fault in it must show in the next block
    return weights


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    """References of both families, by transformers."""
    return {
        config.family: record_with_transformers(config, weights_of(config), IDS)
        for config in (LLAMA, QWEN_LIKE)
    }


def judge(reference: Any, config: TransformerConfig, weights: Weights) -> tuple[Any, Any]:
    """The two gates (blocks, loss) for our decoder with these weights."""
    decoder = Decoder(config)
    decoder.load_state_dict({n: torch.from_numpy(v) for n, v in weights.items()}, strict=False)
    return compare(reference, *measure(tracer(decoder), reference.probe_ids))


@pytest.mark.parametrize("config", [LLAMA, QWEN_LIKE], ids=lambda config: config.family)
def test_our_decoder_meets_the_reference_far_below_the_tolerance(
    recorded: dict[str, Any], config: TransformerConfig
) -> None:
    reference = recorded[config.family]
    assert (reference.grade, reference.num_tokens) == ("A", len(IDS) - 1)
    assert reference.oracle.startswith("transformers 5")
    blocks, loss = judge(reference, config, weights_of(config))
    assert (blocks.verdict, loss.verdict) == ("yes", "yes")
    assert blocks.figure < BLOCK_TOLERANCE / 20
    assert loss.figure < LOSS_TOLERANCE / 100
    names = [block["name"] for block in reference.blocks]
    assert names == ["embedding", "block.0", "block.1", "final_norm"]


def neighbours(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The other pair layout: element 2i with 2i + 1."""
    half = x.shape[-1] // 2
    cos, sin = cos[:, :half].repeat_interleave(2, -1), sin[:, :half].repeat_interleave(2, -1)
    turned = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)
    return x * cos + turned * sin


def swap_heads(weights: Weights, config: TransformerConfig) -> None:
    name, H = "model.layers.0.self_attn.q_proj.weight", config.head_dim
    weights[name][: 2 * H] = np.roll(weights[name][: 2 * H], H, axis=0)


def shift_rows(weights: Weights, config: TransformerConfig) -> None:
    weights[EMBEDDING][:] = np.roll(weights[EMBEDDING], 1, axis=0)


def exchange_layers(weights: Weights, config: TransformerConfig) -> None:
    for name in [name for name in weights if ".layers.0." in name]:
        other = name.replace(".layers.0.", ".layers.1.")
        weights[name], weights[other] = weights[other], weights[name]


def negate_one_value(weights: Weights, config: TransformerConfig) -> None:
    weights["model.layers.1.input_layernorm.weight"][3] *= -1


def flip_exponent(weights: Weights, config: TransformerConfig) -> None:
    weights["model.layers.0.mlp.up_proj.weight"].view(np.uint32)[2, 2] ^= 1 << 25


def zero(name: str) -> Callable[[Weights, TransformerConfig], None]:
    return lambda weights, config: weights[name].fill(0)


Fault = tuple[dict[str, Any], Callable[[Weights, TransformerConfig], None] | None, str]
BOTH: dict[str, Fault] = {  # fault -> (changes to the config, to the weights, the first block that differs)
    "theta": ({"rope_theta": 1e4}, None, "block.0"),
    "linear scaling": ({"rope_scaling": RopeScaling(rope_type="linear", factor=2.0)}, None, "block.0"),
    "eps": ({"rms_norm_eps": 1e-3}, None, "block.0"),
    "kv grouping": ({"num_key_value_heads": 4}, None, "block.0"),
    "swapped heads": ({}, swap_heads, "block.0"),
    "embedding rows shifted": ({}, shift_rows, "embedding"),
    "layers exchanged": ({}, exchange_layers, "block.0"),
    "a negated norm weight": ({}, negate_one_value, "block.1"),
    "a flipped exponent bit": ({}, flip_exponent, "block.0"),
    "a zeroed matrix": ({}, zero("model.layers.1.mlp.down_proj.weight"), "block.1"),
}
QWEN_ONLY: dict[str, Fault] = {
    f"dropped {letter} bias": ({}, zero(f"model.layers.0.self_attn.{letter}_proj.bias"), "block.0")
    for letter in ("q", "k", "v")
}


def widen_keys(weights: Weights, config: TransformerConfig) -> None:
    """Key-value heads repeated in the wrong order (0 1 0 1 for 0 0 1 1), as a model with as many heads."""
    for name in [name for name in weights if "k_proj" in name or "v_proj" in name]:
        weights[name] = np.concatenate([weights[name], weights[name]])


@pytest.mark.parametrize("config", [LLAMA, QWEN_LIKE], ids=lambda config: config.family)
@pytest.mark.parametrize("fault", [*BOTH, *QWEN_ONLY])
def test_a_planted_fault_is_named(recorded: dict[str, Any], config: TransformerConfig, fault: str) -> None:
    if fault in QWEN_ONLY and not config.attention_bias:
        config = QWEN_LIKE
    changes, spoil, first = {**BOTH, **QWEN_ONLY}[fault]
    weights = weights_of(config)
    if fault == "kv grouping":
        widen_keys(weights, config)
    if spoil:
        spoil(weights, config)
    blocks, loss = judge(recorded[config.family], replace(config, **changes), weights)
    assert blocks.verdict == "no"
    assert blocks.facts["first_difference"] == first
    assert blocks.figure == blocks.facts["difference"] > BLOCK_TOLERANCE == blocks.limit
    assert blocks.cause.startswith(first)
    assert loss.figure > 0


@pytest.mark.parametrize("config", [LLAMA, QWEN_LIKE], ids=lambda config: config.family)
def test_another_pair_layout_is_named(
    recorded: dict[str, Any], config: TransformerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder_module, "rotate", neighbours)
    blocks, loss = judge(recorded[config.family], config, weights_of(config))
    assert (blocks.verdict, loss.verdict) == ("no", "no")
    assert blocks.facts["first_difference"] == "block.0"


def test_no_rotation_at_all_is_named(recorded: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_module, "rotate", lambda x, cos, sin: x)
    blocks, loss = judge(recorded["qwen2"], QWEN_LIKE, weights_of(QWEN_LIKE))
    assert (blocks.verdict, loss.verdict) == ("no", "no")
    assert rope.rotate is not decoder_module.rotate


def test_a_head_of_its_own_is_seen_by_the_loss_alone(recorded: dict[str, Any]) -> None:
    weights = weights_of(LLAMA)
    weights["lm_head.weight"] = weights[EMBEDDING].copy()  # S-28, the other way round
    blocks, loss = judge(recorded["llama"], LLAMA, weights)
    assert (blocks.verdict, loss.verdict) == ("yes", "no")
    assert loss.figure > LOSS_TOLERANCE


def test_nan_in_a_block_is_a_no_at_that_block(recorded: dict[str, Any]) -> None:
    weights = weights_of(QWEN_LIKE)
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = np.nan
    blocks, loss = judge(recorded["qwen2"], QWEN_LIKE, weights)
    assert (blocks.verdict, loss.verdict) == ("no", "no")
    assert blocks.facts["first_difference"] == "block.1"
    assert math.isnan(loss.figure)


@pytest.mark.parametrize("key", ["mean", "std", "absmax", "projections"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_figure_that_is_not_finite_is_never_hidden(key: str, bad: float) -> None:
    good = block_figures("x", torch.randn(8, 4, generator=torch.Generator().manual_seed(0)))
    spoilt = {**good, key: [good[key][0], bad, *good[key][2:]] if key == "projections" else bad}
    name, gap = relative_difference(good, spoilt)
    assert name == ("projection 1" if key == "projections" else key)
    assert not gap <= BLOCK_TOLERANCE


def test_figures_see_what_moments_do_not() -> None:
    hidden = torch.randn(32, 16, generator=torch.Generator().manual_seed(0))
    for moved in (hidden.roll(1, 0), hidden.roll(1, 1), hidden.flip(1)):
        name, gap = relative_difference(block_figures("x", hidden), block_figures("x", moved))
        assert name.startswith("projection")
        assert gap > 100 * BLOCK_TOLERANCE


def test_projections_are_the_same_everywhere() -> None:
    """Fixed by value: a file recorded on one machine is compared on another."""
    hidden = (torch.arange(63).square() % 11).float().view(7, 9)
    wanted = [-8.315218406202998, 5.2915026221291805, -4.0316210454317565, 5.039526306789695]
    assert block_figures("x", hidden)["projections"] == pytest.approx(wanted, abs=1e-12)


def test_another_number_of_blocks_is_a_no(recorded: dict[str, Any]) -> None:
    reference = recorded["qwen2"]
    blocks, _ = compare(reference, reference.loss, reference.blocks[:-1])
    assert blocks.verdict == "no"
    assert "3 blocks" in blocks.cause


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("limits", "verdict"),
    [(0.9, "yes"), (-0.9, "yes"), (1.1, "no"), (-1.1, "no"), (math.nan, "no"), (math.inf, "no")],
)
def test_the_training_loss_must_be_the_references(
    recorded: dict[str, Any], dtype: str, limits: float, verdict: str
) -> None:
    reference, limit = recorded["llama"], TRAINING_TOLERANCE[dtype]
    gate = training_gate(reference, reference.loss + limits * limit, dtype)
    assert (gate.id, gate.verdict, gate.limit) == ("reference.training", verdict, limit)
    assert bool(gate.cause) is (verdict == "no")
    assert gate.facts["dtype"] == dtype


@pytest.mark.parametrize(("share", "verdict"), [(0.9, "yes"), (-0.9, "yes"), (1.1, "no"), (-1.1, "no")])
def test_the_loss_tolerance_is_two_sided(recorded: dict[str, Any], share: float, verdict: str) -> None:
    reference = recorded["llama"]
    blocks, loss = compare(reference, reference.loss + share * LOSS_TOLERANCE, reference.blocks)
    assert (blocks.verdict, loss.verdict) == ("yes", verdict)


def test_a_reference_reads_back(recorded: dict[str, Any]) -> None:
    reference = recorded["llama"]
    assert parse_reference(reference.to_dict(), "x", CONFIG.vocab_size) == reference


def spoilt_block(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def spoil(value: dict[str, Any]) -> dict[str, Any]:
        first = {key: item for key, item in {**value["blocks"][0], **changes}.items() if item is not None}
        return {"blocks": [first, *value["blocks"][1:]]}

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        *(lambda value, key=key: {key: None} for key in ("grade", "probe_ids", "loss", "num_tokens", "blocks")),
        lambda value: {"grade": "C"},
        lambda value: {"loss": -1.0},
        lambda value: {"loss": math.nan},
        lambda value: {"num_tokens": 3},
        lambda value: {"probe_ids": [1]},
        lambda value: {"probe_ids": [*value["probe_ids"][1:], CONFIG.vocab_size]},
        lambda value: {"probe_ids": [*value["probe_ids"][1:], -1]},
        lambda value: {"probe_ids": [*value["probe_ids"][1:], math.inf]},
        lambda value: {"blocks": "abc"},
        lambda value: {"blocks": [1]},
        spoilt_block(name=None),
        spoilt_block(mean=None),
        spoilt_block(std=math.nan),
        spoilt_block(absmax="x"),
        spoilt_block(projections=[1.0]),
        spoilt_block(projections=None),
        spoilt_block(projections=[0.0, 0.0, math.inf, 0.0]),
    ],
)  # fmt: skip
def test_a_damaged_reference_is_refused(
    recorded: dict[str, Any], spoil: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    value = recorded["llama"].to_dict()
    with pytest.raises(ReferenceMalformed):
        parse_reference({**value, **spoil(value)}, "x", CONFIG.vocab_size)


@pytest.mark.parametrize("fault", ["missing", "left over", "shape"])
def test_the_oracle_refuses_other_tensors(fault: str) -> None:
    weights = make_weights(QWEN_LIKE)
    if fault == "missing":
        del weights["model.layers.0.self_attn.q_proj.bias"]
    elif fault == "left over":
        weights["model.layers.0.self_attn.o_proj.bias"] = np.ones(64, np.float32)
    else:
        weights["model.norm.weight"] = np.ones(1, np.float32)  # would broadcast (S-129)
    with pytest.raises(OracleFailed):
        record_with_transformers(QWEN_LIKE, weights, IDS[:8])


def test_the_probe_holds_equal_shares_of_every_script() -> None:
    text = probe_text()
    assert any("\u0400" <= letter <= "\u04ff" or "\u4e00" <= letter <= "\u9fff" for letter in text)
    tokenizer = TextTokenizer(make_tokenizer())
    ids = probe_ids(tokenizer)
    assert len(ids) == PROBE_TOKENS
    assert [len(probe_ids(tokenizer, limit)) for limit in (1, 3, 64)] == [1, 3, 64]
    assert max(ids) < CONFIG.vocab_size


def test_plain_probe_ids_are_fixed() -> None:
    ids = plain_probe_ids(1000)
    assert ids[:64] == plain_probe_ids(1000, 64)
    assert len(ids) == PROBE_TOKENS
    assert len(set(ids)) > 250
    assert max(ids) < 1000


@pytest.mark.parametrize("name", ["model.layers.1.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight"])
def test_weights_that_overflow_have_no_reference(name: str) -> None:
    weights = make_weights(CONFIG)
    weights[name] = np.full_like(weights[name], 1e38)
    with pytest.raises(ReferenceNotFinite) as caught, np.errstate(all="ignore"):
        record_with_transformers(CONFIG, weights, IDS)
    assert "output of" in caught.value.where


def test_the_head_is_blamed_only_where_every_block_agrees() -> None:
    reference = record_with_transformers(CONFIG, make_weights(CONFIG), IDS)
    blocks = [dict(block) for block in reference.blocks]
    assert "output head" in compare(reference, reference.loss + 1, blocks)[1].cause
    blocks[1] = {**blocks[1], "mean": blocks[1]["mean"] + 9}
    for others in (blocks, []):
        gate = compare(reference, reference.loss + 1, others)[1]
        assert gate.verdict == "no"
        assert "output head" not in gate.cause
