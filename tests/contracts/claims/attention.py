"""FALSIFY-APR-PRETRAIN-ARCH-004: grouped attention against two other ways to compute it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import transformers
from torch import Tensor

from apr.aprfile.reader import open_apr
from apr.arch.config import TransformerConfig
from apr.model.load import load_decoder
from contracts.scene import Scene
from tiny import QWEN_LIKE, make_model, make_weights

COSINE_AT_LEAST = 0.99999

GROUPED = replace(
    QWEN_LIKE,
    hidden_size=112,
    num_attention_heads=14,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=64,
)

_KEY_VALUE = ("k_proj.weight", "k_proj.bias", "v_proj.weight", "v_proj.bias")


def grouped_attention_is_exact(scene: Scene) -> None:
    """ARCH-004: GQA 7:1 equals multi-head attention with repeated keys and values, and transformers, in fp32."""
    weights = make_weights(GROUPED, seed=4)
    full = replace(GROUPED, num_key_value_heads=GROUPED.num_attention_heads)
    repeated = {
        name: repeat_heads(value) if name.endswith(_KEY_VALUE) else value for name, value in weights.items()
    }
    ids = torch.from_numpy(np.random.default_rng(5).integers(0, GROUPED.vocab_size, (2, 48)))
    ours = logits_of(scene, GROUPED, weights, ids)
    for name, other in (
        ("multi-head attention", logits_of(scene, full, repeated, ids)),
        ("transformers", logits_of_transformers(weights, ids)),
    ):
        cosine = float(torch.nn.functional.cosine_similarity(ours.double(), other.double(), dim=-1).min())
        assert cosine >= COSINE_AT_LEAST, f"the cosine with {name} is {cosine}"
        gap = float((ours - other).abs().max() / other.std())
        assert gap <= 1e-4, f"logits differ from {name} by {gap} of their spread"


def repeat_heads(value: np.ndarray) -> np.ndarray:
    """Rows of 2 key-value heads as rows of 14: head n of the result is head n // 7."""
    heads = value.reshape(GROUPED.num_key_value_heads, GROUPED.head_dim, *value.shape[1:])
    chosen = [heads[n // 7] for n in range(GROUPED.num_attention_heads)]
    return np.ascontiguousarray(np.concatenate(chosen))


def logits_of(scene: Scene, config: TransformerConfig, weights: dict[str, np.ndarray], ids: Tensor) -> Tensor:
    path = make_model(
        scene.new("attention.apr"), config, oracle="none", tokenizer=scene.tokenizer, weights=weights
    )
    with open_apr(path) as file, torch.no_grad():
        return load_decoder(file).decoder(ids)


def logits_of_transformers(weights: dict[str, np.ndarray], ids: Tensor) -> Tensor:
    """The same tensors in transformers' own class, put together here and not by the program."""
    model = transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(
            vocab_size=320,
            hidden_size=112,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=14,
            num_key_value_heads=2,
            max_position_embeddings=64,
            rms_norm_eps=1e-6,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
            tie_word_embeddings=True,
            attn_implementation="eager",
        )
    )
    tensors = {name: torch.from_numpy(value) for name, value in weights.items()}
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    model.load_state_dict(tensors, strict=True)
    with torch.no_grad():
        return model.eval()(ids, use_cache=False).logits
