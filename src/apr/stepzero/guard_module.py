"""What a module that is not ours computes, and the parts that it was built of, against what a checkpoint says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from apr.arch.config import RopeScaling, TransformerConfig
from apr.stepzero.built import ROPE_POSITIONS, built_gate, rope_reference
from apr.stepzero.gate import GateResult, not_known
from apr.stepzero.guard_weights import unwrapped
from apr.stepzero.memory import head_shares_storage

TYPE_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
# What a config and a module's parts both say. Nothing here is computed from max_position_embeddings.
_FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "rms_norm_eps",
    "hidden_act",
    "attention_bias",
    "tie_word_embeddings",
    "sliding_window",
)


def default_blocks(module: nn.Module) -> dict[str, nn.Module]:
    """The parts of a transformers-style module whose outputs a reference records; empty where they have other names."""
    whole = unwrapped(module)
    body = getattr(whole, "model", whole)
    embedding, layers, norm = (getattr(body, name, None) for name in ("embed_tokens", "layers", "norm"))
    if not isinstance(layers, nn.ModuleList) or embedding is None or norm is None:
        return {}
    return {
        "embedding": embedding,
        **{f"block.{number}": layer for number, layer in enumerate(layers)},
        "final_norm": norm,
    }


def observing(
    forward: Callable[[Tensor], Tensor], blocks: Mapping[str, nn.Module]
) -> Callable[[Tensor, Callable[[str, Tensor], None]], Tensor]:
    """Make the trace function of a forward pass: hooks on the blocks report what they give."""

    def trace(ids_BT: Tensor, observe: Callable[[str, Tensor], None]) -> Tensor:
        def hook(name: str) -> Callable[..., None]:
            return lambda _module, _args, out: observe(name, out[0] if isinstance(out, tuple) else out)

        handles = [block.register_forward_hook(hook(name)) for name, block in blocks.items()]
        try:
            with torch.no_grad():
                return forward(ids_BT).float()
        finally:
            for handle in handles:
                handle.remove()

    return trace


def compute_types(module: nn.Module, run: Callable[[], Tensor]) -> tuple[Tensor, set[str]]:
    """Run a forward pass; returns its output and the types that its products were really computed in."""
    types: set[torch.dtype] = set()
    linear = [part for part in module.modules() if isinstance(part, nn.Linear)]
    handles = [part.register_forward_hook(lambda _m, _a, out: types.add(out.dtype)) for part in linear]
    try:
        with torch.no_grad():
            out = run()
    finally:
        for handle in handles:
            handle.remove()
    return out, {TYPE_NAMES.get(dtype, str(dtype)) for dtype in types or {out.dtype}}


def module_built_gate(module: nn.Module, config: TransformerConfig | None) -> GateResult:
    """The parts of a transformers-style module, and its own config, are those of the checkpoint.

    Args:
        module: any; one with other parts is not judged.
        config: of the file; None to hold the parts against the module's own config.
    """
    whole = unwrapped(module)
    said = _said(getattr(whole, "config", None))
    claims = said if config is None else _claims(config)
    body = getattr(whole, "model", None)
    rotary = getattr(body, "rotary_emb", None)
    try:
        found = _parts(whole)
    except AttributeError as error:
        return _unread(f"its parts have other names than those of transformers: {error}")
    if rotary is None or claims is None or "rope_theta" not in claims:
        return _unread("neither the file nor the module says what its rotary positions are to be")
    head_dim, limit = (
        int(claims["head_dim"]),
        getattr(getattr(whole, "config", None), "max_position_embeddings", 256),
    )
    positions = tuple(p for p in ROPE_POSITIONS if p < limit)
    if said is not None and config is not None:
        found |= {f"{name} of its own config": value for name, value in said.items()}
        claims |= {f"{name} of its own config": claims[name] for name in said}
    found = {name: value for name, value in found.items() if name in claims}
    return built_gate(
        claims={name: claims[name] for name in found},
        found=found,
        rope_expected=rope_reference(positions, head_dim, claims["rope_theta"], _scaling(claims)),
        rope_found=_rope_of(rotary, positions, next(whole.parameters()).device),
    )


def _unread(reason: str) -> GateResult:
    return not_known("model.built", "the module's parts are those of the config", reason)


def _scaling(claims: Mapping[str, Any]) -> dict[str, Any] | None:
    names = [field.name for field in fields(RopeScaling)]
    told = claims["rope_scaling"]
    return {name: told.get(name) for name in names} if told else None


def _claims(config: TransformerConfig) -> dict[str, Any]:
    claims = {name: getattr(config, name) for name in _FIELDS}
    scaling = None if config.rope_scaling is None else asdict(config.rope_scaling)
    claims["rope_scaling"] = {k: v for k, v in scaling.items() if v is not None} if scaling else {}
    return {**claims, "rope_theta": config.rope_theta, "scale of the attention": config.head_dim**-0.5}


def _said(config: Any) -> dict[str, Any] | None:
    """What a transformers config says, in our words; None where there is none of the kind."""
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "rms_norm_eps")
    if config is None or any(not hasattr(config, name) for name in names):
        return None
    said = {name: getattr(config, name) for name in _FIELDS if hasattr(config, name)}
    # transformers 5 has one mapping, and 4 had two keys.
    rope = dict(getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {})
    theta = rope.pop("rope_theta", getattr(config, "rope_theta", None))
    kind = rope.pop("rope_type", rope.pop("type", "default"))
    said["rope_scaling"] = {} if kind == "default" else {"rope_type": kind, **rope}
    if theta is not None:
        said["rope_theta"] = theta
    said["head_dim"] = said.get("head_dim") or config.hidden_size // config.num_attention_heads
    said["scale of the attention"] = said["head_dim"] ** -0.5
    if not getattr(config, "use_sliding_window", True):
        said["sliding_window"] = None
    return said


def _parts(whole: nn.Module) -> dict[str, Any]:
    body: Any = whole.model
    layers, embedding = list(body.layers), body.embed_tokens.weight
    root: Any = whole
    head = root.get_output_embeddings().weight if hasattr(root, "get_output_embeddings") else embedding
    attention = [layer.self_attn for layer in layers]
    norms = [body.norm, *(n for b in layers for n in (b.input_layernorm, b.post_attention_layernorm))]
    found: dict[str, list[Any]] = {
        "vocab_size": [embedding.shape[0], head.shape[0]],
        "hidden_size": [embedding.shape[1], head.shape[1]],
        "num_hidden_layers": [len(layers)],
        "intermediate_size": [layer.mlp.gate_proj.weight.shape[0] for layer in layers],
        "num_attention_heads": [a.q_proj.weight.shape[0] // a.head_dim for a in attention],
        "num_key_value_heads": [
            heads
            for a in attention
            for heads in (
                a.k_proj.weight.shape[0] // a.head_dim,
                a.q_proj.weight.shape[0] // a.head_dim // a.num_key_value_groups,
            )
        ],
        "head_dim": [a.head_dim for a in attention],
        "rms_norm_eps": [n.variance_epsilon if hasattr(n, "variance_epsilon") else n.eps for n in norms],
        "hidden_act": [_activation(layer.mlp.act_fn) for layer in layers],
        "attention_bias": [p.bias is not None for a in attention for p in (a.q_proj, a.k_proj, a.v_proj)],
        "tie_word_embeddings": [head_shares_storage(embedding, head)],
        "sliding_window": [getattr(a, "sliding_window", None) for a in attention],
        "scale of the attention": [a.scaling for a in attention],
    }
    return {name: _one(values) for name, values in found.items()}


def _one(values: Sequence[Any]) -> Any:
    """The value that all parts share, or all of them in words."""
    distinct = list(dict.fromkeys(values))
    return distinct[0] if len(distinct) == 1 else " and ".join(map(str, distinct))


def _activation(function: Callable[[Tensor], Tensor]) -> str:
    """The name of an activation, from what it computes."""
    x = torch.linspace(-4, 4, 33)
    with torch.no_grad():
        is_silu = torch.allclose(function(x), F.silu(x), atol=1e-6)
    return "silu" if is_silu else type(function).__name__


def _rope_of(rotary: nn.Module, positions: Sequence[int], device: torch.device) -> np.ndarray:
    """Cosines and sines that a transformers module turns positions by, fp64 [2, P, H/2]."""
    at = torch.tensor([list(positions)], device=device)
    with torch.no_grad():
        cos, sin = rotary(torch.zeros(1, 1, 1, device=device), position_ids=at)
    half = cos.shape[-1] // 2
    return np.stack([part[0, :, :half].double().cpu().numpy() for part in (cos, sin)])
