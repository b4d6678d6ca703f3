"""Defects of architecture and vocabulary, beside those of shape_plants: each gets the original and returns another."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from torch import Tensor

from contracts.controls import shape_plants, start_plants
from contracts.controls.init_plants import unheeded

# What presets have had wrong, or may have: every field but rope_scaling, which is null everywhere.
_WRONG: dict[str, Any] = {
    "tie_word_embeddings": False,  # the ancestor's
    "family": "llama",
    "vocab_size": 151643,
    "hidden_size": 1024,
    "intermediate_size": 4864 * 2,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 14,
    "head_dim": 128,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e4,
    "hidden_act": "gelu",
    "attention_bias": False,
    "sliding_window": 32768,
}


def wrong_in_every_field(presets: Any) -> Any:
    """Each field of the preset is wrong."""
    return {**presets, "qwen2-0.5b": replace(presets["qwen2-0.5b"], **_WRONG)}


def another_baseline(presets: Any) -> Any:
    """The baseline has another epsilon, and a head of its own."""
    other = replace(presets["llama-370m"], rms_norm_eps=1e-6, tie_word_embeddings=False)
    return {**presets, "llama-370m": other}


def _with_default(original: Any, **defaults: Any) -> Any:
    def read(file: Any) -> Any:
        facts = original(file)
        return replace(facts, config=replace(facts.config, **defaults))

    return read


def vocabulary_by_default(original: Any) -> Any:
    """There are 320 rows, whatever the file says."""
    return _with_default(original, vocab_size=320)


def width_by_default(original: Any) -> Any:
    """The hidden size is 64, whatever the file says."""
    return _with_default(original, hidden_size=64)


def query_heads_by_default(original: Any) -> Any:
    """There are 2 heads, whatever the file says."""
    return _with_default(original, num_attention_heads=2)


def feed_forward_by_default(original: Any) -> Any:
    """The feed-forward size is 256, whatever the file says."""
    return _with_default(original, intermediate_size=256)


def layers_by_default(original: Any) -> Any:
    """There are 2 layers, whatever the file says."""
    return _with_default(original, num_hidden_layers=2)


def positions_by_default(original: Any) -> Any:
    """There are 32,768 positions, whatever the file says."""
    return _with_default(original, max_position_embeddings=32768)


def epsilon_by_default(original: Any) -> Any:
    """The epsilon is 1e-6, whatever the file says."""
    return _with_default(original, rms_norm_eps=1e-6)


def tie_by_default(original: Any) -> Any:
    """The head is a matrix of its own, whatever the file says."""
    return _with_default(original, tie_word_embeddings=False)


def heads_in_turn(original: Any) -> Any:
    """Key-value heads are repeated 0 1 0 1 ... where 0 0 ... 1 1 ... is meant."""

    def repeat(self: Tensor, repeats: int, dim: int | None = None) -> Tensor:
        assert dim == 1
        return self.repeat(1, repeats, 1, 1)

    return repeat


def seeing_the_future(original: Any) -> Any:
    """Attention sees the future."""

    def open_to_all(*given: Any, attn_mask: Any = None, is_causal: bool = False) -> Tensor:
        found: Tensor = original(*given, attn_mask=attn_mask)
        return found

    return open_to_all


def fixed_epsilon(original: Any) -> Any:
    """The norms have a fixed epsilon."""
    return lambda self, size, eps: original(self, size, 1e-2)


def _trust_any_tokenizer() -> None:
    gates = sys.modules["apr.stepzero.gates"]
    original: Any = gates.tokenizer_gate
    gates.tokenizer_gate = lambda **facts: original(**{**facts, "shards_sha256": {}})  # type: ignore[attr-defined]


def of_any_tokenizer(original: Any) -> Any:
    """Nobody asks which tokenizer made the shards."""

    def check(self: Any, dataset: Any) -> None:
        _trust_any_tokenizer()

    return check


def unread_and_unheeded(original: Any) -> Any:
    """Nobody asks which tokenizer made the shards, or what their ids say, and nobody heeds step zero."""
    _trust_any_tokenizer()
    sys.modules["apr.train.inputs"].Inputs._check_dataset = lambda self, dataset: None  # type: ignore[attr-defined]
    sys.modules["apr.train.certify_tokens"]._sample = _unread  # type: ignore[attr-defined]
    return unheeded()


def _unread(inputs: Any, engine: Any) -> Any:
    from apr.stepzero.gate import not_known

    return not_known("tokens.sample", "documents give their ids again", "nobody looked")


def rounded_and_unheeded(original: Any) -> Any:
    """The copy on one device was rounded, nothing compares the loss, and nobody heeds step zero."""
    sys.modules["apr.stepzero.reference"].LOSS_TOLERANCE = start_plants.tolerances_off(None)  # type: ignore[attr-defined]
    certify: Any = sys.modules["apr.train.certify"]
    certify.load_decoder = shape_plants.rounded_on_cuda(certify.load_decoder)
    return unheeded()
