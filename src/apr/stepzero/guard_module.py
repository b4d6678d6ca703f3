"""A module that is not ours: its tensors under a file's names, its blocks, its parts, against what a file says."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from apr.aprfile.metadata import ModelFacts
from apr.aprfile.reader import AprFile
from apr.arch.config import RopeScaling, TransformerConfig
from apr.arch.inventory import EMBEDDING, HEAD, cover, inventory
from apr.base.files import canonical_json, sha256_bytes
from apr.stepzero.built import ROPE_POSITIONS, built_gate, rope_reference
from apr.stepzero.gate import GateResult, not_known, verdict_of
from apr.stepzero.memory import STORED, head_shares_storage, memory_digests, memory_gate, tensor_digest

TYPE_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
_STORED_AS = {dtype: name for name, dtype in STORED.items()}
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

# --- names --------------------------------------------------------------------------------------


def unwrapped(module: nn.Module) -> nn.Module:
    """The module itself, without what data parallelism and the compiler put around it."""
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
            module = inner
        else:
            return module


def file_names(module: nn.Module, rename: Callable[[str], str]) -> dict[str, Tensor]:
    """Every parameter under its name in the file, two names of one parameter as the first."""
    named = unwrapped(module).named_parameters()
    return {rename(name.replace("_orig_mod.", "")): value for name, value in named}


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


# --- weights ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEvidence:
    """What a checkpoint says of every tensor."""

    file: AprFile
    config: TransformerConfig
    expected: dict[str, str]  # sha256 by name
    stored: dict[str, str]  # F32, F16, BF16; K-quants count as the F32 that they unfold to
    num_bytes: int

    def value(self, name: str) -> Tensor:
        """A tensor of the file, widened to fp32; a copy."""
        return torch.from_numpy(np.array(self.file.as_f32(name)))


def file_evidence(file: AprFile, facts: ModelFacts) -> FileEvidence:
    """Say what every parameter must hash to: the file's own digests, which the reader has checked."""
    own = file.metadata.get("apr_pretrain") or {}
    digests, names = own.get("digests") or {}, [spec.name for spec in inventory(facts.config)]
    stored = {
        name: kind if name in digests and (kind := file.entries[name].dtype) in STORED else "F32"
        for name in names
    }
    expected = {
        name: digests[name]
        if name in digests and file.entries[name].dtype in STORED
        else tensor_digest(torch.from_numpy(np.array(file.as_f32(name))), "F32")
        for name in names
    }
    size = sum(file.entries[name].size_bytes for name in names)
    return FileEvidence(file=file, config=facts.config, expected=expected, stored=stored, num_bytes=size)


def stored_types(parameters: Mapping[str, Tensor]) -> dict[str, str]:
    """The type that each parameter would be stored in as it is."""
    return {name: _STORED_AS[value.dtype] for name, value in parameters.items()}


def digests_of(parameters: Mapping[str, Tensor], stored: Mapping[str, str]) -> dict[str, str]:
    """Hash every parameter as the file stores it; one that the file does not have, as it is."""
    return memory_digests(parameters, {**stored_types(parameters), **stored})


def weights_digest(digests: Mapping[str, str]) -> str:
    """One sha256 over those of all tensors: what a certificate without a file is about."""
    return sha256_bytes(canonical_json(dict(digests)))


def head_is_embedding(parameters: Mapping[str, Tensor]) -> bool:
    """Whether the module has one storage for both; a head that is listed nowhere is the embedding."""
    head, embedding = parameters.get(HEAD), parameters.get(EMBEDDING)
    return head is None or (embedding is not None and head_shares_storage(embedding, head))


def unhashable_gate(parameters: Mapping[str, Tensor]) -> GateResult | None:
    """A no, where a parameter has a type that no checkpoint holds, or no memory of its own."""
    odd = [name for name, v in parameters.items() if v.dtype not in _STORED_AS or v.is_meta]
    if not odd and not [v for v in parameters.values() if type(v.data) is not Tensor]:
        return None
    first = odd[0] if odd else next(n for n, v in parameters.items() if type(v.data) is not Tensor)
    kind = f"{str(parameters[first].dtype).removeprefix('torch.')} on {parameters[first].device}"
    return GateResult(
        id="weights.coverage", claim="tensors of the file and of the module are the same set", verdict="no",
        figure=f"{first}: {kind}", limit="whole tensors of fp32, bf16 or fp16",
        cause=f"{first} is {type(parameters[first].data).__name__} {kind}, which cannot be compared bit for bit",
    )  # fmt: skip


def module_coverage_gate(parameters: Mapping[str, Tensor], evidence: FileEvidence) -> GateResult:
    """Every tensor of the file has one parameter of its shape, and every parameter one tensor."""
    config, found = evidence.config, {name: tuple(value.shape) for name, value in parameters.items()}
    if config.tie_word_embeddings:
        found.pop(HEAD, None)  # whether it is the embedding, weights.memory says
    coverage = cover(inventory(config), found)
    told = [f"{len(coverage.missing)} tensors of the file are not in the module, such as {name}"
            for name in coverage.missing[:1]]  # fmt: skip
    told += [f"{len(coverage.unexpected)} parameters of the module are not in the file, such as {name}"
             for name in coverage.unexpected[:1]]  # fmt: skip
    told += [f"{name} is {list(have)} in the module and {list(want)} in the file"
             for name, want, have in coverage.misshapen[:1]]  # fmt: skip
    cause = "; ".join(told)
    return GateResult(
        id="weights.coverage",
        claim="tensors of the file and of the module are the same set",
        verdict=verdict_of(not cause),
        figure=cause or len(found),
        limit=len(evidence.expected),
        cause=cause,
        facts={
            "num_parameters": sum(value.numel() for value in parameters.values()),
            "tied": config.tie_word_embeddings,
        },
    )


def module_memory_gate(
    parameters: Mapping[str, Tensor], digests: Mapping[str, str], evidence: FileEvidence
) -> GateResult:
    """Every parameter is the file's bit for bit, and a tied head is the embedding."""
    tied, one = evidence.config.tie_word_embeddings, head_is_embedding(parameters)
    return memory_gate(
        expected=evidence.expected,
        found={name: digest for name, digest in digests.items() if name != HEAD or not tied},
        num_bytes=evidence.num_bytes,
        tied=tied,
        head_is_embedding=one,
    )


def untouched_gate(before: Mapping[str, str], now: Mapping[str, str]) -> GateResult:
    """The weights that step 1 starts from are those that were judged."""
    differing = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return GateResult(
        id="weights.untouched",
        claim="the weights that step 1 starts from are those that were judged",
        verdict=verdict_of(not differing),
        figure=len(before) - len(differing),
        limit=len(before),
        cause=f"{differing[0]} changed while the guard judged it" if differing else "",
        facts={"differing": differing[:10]},
    )


# --- parts --------------------------------------------------------------------------------------


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


# --- leaving it as it was -----------------------------------------------------------------------


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Give back random states, training flags, gradients and buffers as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    training = {part: part.training for part in module.modules()}
    gradients = {parameter: parameter.grad for parameter in module.parameters()}
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    devices = sorted({p.device.index or 0 for p in module.parameters() if p.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        for part, flag in training.items():
            part.training = flag
        for parameter, gradient in gradients.items():
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
