"""The metadata of an .apr file as bytes: which keys there are, and JSON that is safe to read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from apr.aprfile.errors import MetadataBad
from apr.aprfile.layout import MAX_METADATA_BYTES
from apr.base.files import canonical_json

OWN_KEY = "apr_pretrain"  # the one key under which our additions live

# The order of the field's readers; whatever is not named here follows, sorted.
TYPED_KEYS = (
    *("model_type", "name", "description", "author", "license", "data_source", "data_license", "version"),
    *("source", "original_format", "created_at", "total_size", "param_count", "quantization", "sharding"),
    *("chat_template", "chat_format", "special_tokens", "architecture", "hf_architecture", "hf_model_type"),
    *("hidden_size", "num_layers", "num_heads", "num_kv_heads", "vocab_size", "intermediate_size"),
    *("max_position_embeddings", "rope_theta", "rope_type", "rms_norm_eps", "head_dim", "num_experts"),
    *("num_experts_per_tok", "moe_intermediate_size"),
)
# Other spellings in the field's files. Only ever read: a reader of the field drops all metadata of a file
# that has a key and its alias.
KEY_ALIASES = {
    "hidden_size": ("hidden_dim", "d_model", "n_embd"),
    "num_layers": ("n_layers", "num_hidden_layers", "n_layer"),
    "num_heads": ("n_heads", "num_attention_heads", "n_head"),
    "num_kv_heads": ("n_kv_heads", "num_key_value_heads"),
    "vocab_size": ("n_vocab",),
    "intermediate_size": ("ffn_dim", "intermediate_dim", "n_inner"),
    "max_position_embeddings": ("max_seq_len", "context_length", "n_ctx"),
    "rms_norm_eps": ("layer_norm_eps", "norm_eps"),
}
# Typed key and the field of TransformerConfig that it fills.
FIELDS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "max_position_embeddings": "max_position_embeddings",
    "rms_norm_eps": "rms_norm_eps",
    "rope_theta": "rope_theta",
}
HF_CLASSES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}


def stated(metadata: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Every spelling of a key that is there, with its value; null is the same as absent."""
    spellings = (key, *KEY_ALIASES.get(key, ()))
    return {name: metadata[name] for name in spellings if metadata.get(name) is not None}


def encode_metadata(metadata: Mapping[str, Any], path: str) -> bytes:
    """Encode metadata as compact JSON: typed keys in the field's order, the others sorted, nested ones too.

    Raises:
        MetadataBad: a value is no JSON (NaN among them), or all is larger than a reader takes.
    """
    typed = [key for key in TYPED_KEYS if key in metadata]
    try:
        others = sorted(key for key in metadata if key not in typed)
        pairs = [canonical_json(key) + b":" + canonical_json(metadata[key]) for key in [*typed, *others]]
    except (ValueError, TypeError, RecursionError) as error:
        raise MetadataBad(path=path, reason=str(error)) from error
    raw = b"{" + b",".join(pairs) + b"}"
    if len(raw) > MAX_METADATA_BYTES:
        reason = f"it takes {len(raw):,} bytes, and readers take {MAX_METADATA_BYTES:,}"
        raise MetadataBad(path=path, reason=reason)
    return raw


def parse_metadata(raw: bytes, path: str) -> dict[str, Any]:
    """Decode metadata.

    A key that stands twice is taken where one of its values is null, as files of the field have it; two other values
    are refused, since readers differ in which one they take.

    Raises:
        MetadataBad: it is no JSON object in UTF-8, or holds a NaN, an infinity, half a character or one key twice.
    """
    try:
        value = json.loads(
            raw.decode(),
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_bounded,
            object_pairs_hook=_one_value_a_key,
        )
        if b"\\ud" in raw.lower():
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair could not be printed
    except RecursionError:
        raise MetadataBad(path=path, reason="it is nested too deeply") from None
    except ValueError as error:
        raise MetadataBad(path=path, reason=str(error)) from error
    if not isinstance(value, dict):
        raise MetadataBad(path=path, reason=f"it is a {type(value).__name__}")
    return value


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"it holds {word}")


def _one_value_a_key(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in pairs:
        before = value.get(key)
        if before is not None and item is not None and before != item:
            raise ValueError(f"the key {key!r} stands twice, with two values")
        value[key] = before if item is None else item
    return value


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0:
        raise ValueError(f"it holds {text}, which is infinite")
    return value


def _bounded(text: str) -> int:
    if len(text) > 20:  # more than any 64-bit field; such a number would overflow where it is used
        raise ValueError(f"it holds a number of {len(text)} digits")
    return int(text)
