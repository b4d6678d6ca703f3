"""A GGUF file's fields, read into a TransformerConfig; one that is missing is refused, never defaulted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from apr.arch.config import FAMILIES, TransformerConfig, parse_config
from apr.arch.errors import ArchitectureUnsupported, ConfigFieldMissing, ConfigValueBad, FeatureUnsupported
from apr.convert.errors import ConfigKeyUnjudged
from apr.convert.gguf_names import ROPE_FACTORS
from apr.convert.rope_factors import find_llama3_scaling

_REQUIRED = {
    "num_hidden_layers": "block_count",
    "max_position_embeddings": "context_length",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "rope_theta": "rope.freq_base",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}
_OPTIONAL = (
    "vocab_size",
    "attention.key_length",
    "attention.value_length",
    "rope.dimension_count",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "attention.sliding_window",
)
# Keys whose feature the decoder does not compute, with the one value that means it is not used.
_MUST_BE = {"expert_count": 0, "expert_used_count": 0, "attention.causal": True}
_MUST_BE_GENERAL = {
    "general.type": ("model",),  # an adapter or a projector is no model
    "general.quantization_version": (2,),  # blocks of version 1 have another layout under the same name
    "split.count": (0, 1),
}


def read_config(
    fields: Mapping[str, Any], *, rows: int | None, rope_factors: np.ndarray | None, tied: bool, source: str
) -> TransformerConfig:
    """Read the architecture from a GGUF file's fields.

    Args:
        fields: value by key, of the whole file.
        rows: rows of the token embedding, which are the vocabulary; None where the file has no such tensor.
        rope_factors: the tensor `rope_freqs.weight`, where there is one.
        tied: what was decided about the head; the fields do not say.
        source: where they came from, for messages.

    Raises:
        ArchitectureUnsupported: neither llama nor qwen2.
        ConfigFieldMissing, ConfigValueBad, FeatureUnsupported, ConfigKeyUnjudged, RopeFactorsUnknown.
    """
    family = require_family(fields, source)
    own = {
        key.removeprefix(family + "."): value for key, value in fields.items() if key.startswith(family + ".")
    }
    _refuse_unjudged(fields, own, family, source)
    missing = [f"{family}.{key}" for key in _REQUIRED.values() if key not in own]
    if rows is None:
        missing.append("token_embd.weight")
    if missing:
        raise ConfigFieldMissing(source=source, fields=", ".join(missing))
    values: dict[str, Any] = {ours: own[theirs] for ours, theirs in _REQUIRED.items()}
    _agree(own, "vocab_size", rows, "the rows of token_embd.weight", source)
    values |= {"family": family, "vocab_size": rows, "head_dim": _head_dim(own, source), "hidden_act": "silu"}
    values["rope_scaling"] = _rope_scaling(own, rope_factors, source)
    values["sliding_window"] = _sliding_window(own, family, source)
    # Not in the file: qwen2 has biases on q, k and v by definition and llama has none. The two-way
    # comparison of the tensors judges it: a file that says otherwise has tensors that are missing or
    # unexpected.
    values["attention_bias"] = family == "qwen2"
    values["tie_word_embeddings"] = tied
    config = parse_config(values, source)
    if rope_factors is None:
        return config
    scaling = find_llama3_scaling(rope_factors, config.rope_theta, config.head_dim, source, ROPE_FACTORS)
    return replace(config, rope_scaling=scaling)


def require_family(fields: Mapping[str, Any], source: str) -> str:
    """The family that a GGUF file says it holds.

    Raises:
        ConfigFieldMissing, ArchitectureUnsupported: it says none, or one that the decoder does not express.
    """
    family = fields.get("general.architecture")
    if family is None:
        raise ConfigFieldMissing(source=source, fields="general.architecture")
    if family not in FAMILIES:
        raise ArchitectureUnsupported(source=source, architecture=str(family), supported=", ".join(FAMILIES))
    return str(family)


def _refuse_unjudged(fields: Mapping[str, Any], own: Mapping[str, Any], family: str, source: str) -> None:
    for key, allowed in _MUST_BE_GENERAL.items():
        if key in fields and fields[key] not in allowed:
            raise FeatureUnsupported(source=source, field=key, value=str(fields[key]))
    for key, value in own.items():
        if key in _MUST_BE:
            if value != _MUST_BE[key]:
                raise FeatureUnsupported(source=source, field=f"{family}.{key}", value=str(value))
        elif key not in _REQUIRED.values() and key not in _OPTIONAL:
            raise ConfigKeyUnjudged(source=source, key=f"{family}.{key}", value=str(value))


def _agree(own: Mapping[str, Any], key: str, expected: Any, limit: str, source: str) -> None:
    if key in own and own[key] != expected:
        raise ConfigValueBad(source=source, field=key, value=str(own[key]), limit=f"{expected}, {limit}")


def _head_dim(own: Mapping[str, Any], source: str) -> Any:
    # The format writes key_length only where it differs from the quotient, which is the definition otherwise.
    hidden, heads = own["embedding_length"], own["attention.head_count"]
    head_dim = own.get("attention.key_length")
    if head_dim is None:
        if not isinstance(heads, int) or not isinstance(hidden, int) or heads < 1 or hidden % heads:
            limit = f"a divisor of embedding_length = {hidden}"
            raise ConfigValueBad(source=source, field="attention.head_count", value=str(heads), limit=limit)
        head_dim = hidden // heads
    _agree(own, "attention.value_length", head_dim, "the length of keys", source)
    # Fewer would turn only a part of each head.
    _agree(own, "rope.dimension_count", head_dim, "the whole head", source)
    return head_dim


def _sliding_window(own: Mapping[str, Any], family: str, source: str) -> int | None:
    window = own.get("attention.sliding_window")
    if window is not None and family == "qwen2":
        # qwen2 applies it from some layer on, and GGUF does not say from which.
        raise FeatureUnsupported(source=source, field="qwen2.attention.sliding_window", value=str(window))
    return window


def _rope_scaling(own: Mapping[str, Any], factors: np.ndarray | None, source: str) -> dict[str, Any] | None:
    kind = own.get("rope.scaling.type", "none")
    if kind not in ("none", "linear") or (kind == "linear" and factors is not None):
        raise FeatureUnsupported(source=source, field="rope.scaling.type", value=str(kind))
    if kind == "none":
        # A factor without a kind is applied by some programs and not by others.
        _agree(own, "rope.scaling.factor", 1.0, "as no rope.scaling.type is given", source)
        return None
    if "rope.scaling.factor" not in own:
        raise ConfigFieldMissing(source=source, fields="rope.scaling.factor")
    return {"rope_type": "linear", "factor": own["rope.scaling.factor"]}
