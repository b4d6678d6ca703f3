"""A Hugging Face config.json, read into a TransformerConfig.

A library that knows a key ignores it in another model without a word, so every key is judged here: it is
read, or it is known to change nothing, or the file is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apr.arch.config import RopeScaling, TransformerConfig, parse_config, parse_rope_scaling
from apr.arch.errors import ArchitectureUnsupported, ConfigFieldMissing, ConfigValueBad, FeatureUnsupported
from apr.convert.errors import ConfigKeyUnjudged

# model_type -> the one class whose computation the decoder does, and the family it belongs to
_CLASSES = {
    "llama": ("LlamaForCausalLM", "llama"),
    "qwen2": ("Qwen2ForCausalLM", "qwen2"),
    "mistral": ("MistralForCausalLM", "llama"),
}
_REQUIRED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "rms_norm_eps",
    "hidden_act",
)
_READ = (
    *_REQUIRED,
    *("model_type", "architectures", "head_dim", "rope_theta", "rope_scaling", "rope_parameters"),
    *("tie_word_embeddings", "sliding_window", "use_sliding_window", "max_window_layers", "layer_types"),
)
# They say how weights were made, are stored, or are used by programs around the model, not what it computes.
_CHANGES_NOTHING = (
    *("torch_dtype", "dtype", "use_cache", "transformers_version", "transformers.js_config", "_name_or_path"),
    *("initializer_range", "bos_token_id", "eos_token_id", "pad_token_id", "pretraining_tp"),
    *("is_llama_config", "output_attentions", "output_hidden_states", "return_dict", "problem_type"),
    *("chunk_size_feed_forward", "id2label", "label2id"),
    *("_attn_implementation", "_attn_implementation_autoset"),
)
# Keys that do change the computation, with the values that mean "not used".
_MUST_BE: dict[str, tuple[Any, ...]] = {
    "attention_bias": (False,),  # llama's would be on o as well
    "mlp_bias": (False,),
    "attention_dropout": (0, 0.0),  # it would act in training
    "hidden_dropout": (0, 0.0),
    "rope_interleaved": (False,),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "partial_rotary_factor": (1, 1.0, None),
}


def read_config(values: Mapping[str, Any], *, tied: bool, source: str) -> TransformerConfig:
    """Read a config.json.

    Args:
        values: its content.
        tied: what was decided about the head.
        source: where it came from, for messages.

    Raises:
        ArchitectureUnsupported, ConfigFieldMissing, ConfigValueBad, FeatureUnsupported, ConfigKeyUnjudged.
    """
    family = _family(values, source)
    _refuse_unjudged(values, source)
    theta, scaling = _rope(values, source)
    missing = [name for name in _REQUIRED if name not in values]
    if theta is None:
        missing.append("rope_theta")
    if missing:
        raise ConfigFieldMissing(source=source, fields=", ".join(missing))
    read = {name: values[name] for name in _REQUIRED}
    read["rms_norm_eps"] = _as_float(read["rms_norm_eps"])
    read |= {"family": family, "rope_theta": _as_float(theta), "rope_scaling": scaling}
    read["head_dim"] = _head_dim(values, source)
    read["sliding_window"] = _sliding_window(values, source)
    # qwen2 has biases on q, k and v by definition, llama has none unless `attention_bias` says so, which is
    # refused above. The two-way comparison of the tensors judges both.
    read["attention_bias"] = family == "qwen2"
    read["tie_word_embeddings"] = tied
    return parse_config(read, source)


def _family(values: Mapping[str, Any], source: str) -> str:
    missing = [name for name in ("model_type", "architectures") if not values.get(name)]
    if missing:
        raise ConfigFieldMissing(source=source, fields=", ".join(missing))
    model_type, classes = values["model_type"], values["architectures"]
    supported = ", ".join(name for name, _ in _CLASSES.values())
    if not isinstance(model_type, str) or model_type not in _CLASSES:
        raise ArchitectureUnsupported(source=source, architecture=str(model_type), supported=supported)
    if classes != [_CLASSES[model_type][0]]:
        raise ArchitectureUnsupported(source=source, architecture=str(classes), supported=supported)
    return _CLASSES[model_type][1]


def _refuse_unjudged(values: Mapping[str, Any], source: str) -> None:
    for key, value in values.items():
        if key in _MUST_BE:
            if value not in _MUST_BE[key]:
                raise FeatureUnsupported(source=source, field=key, value=str(value))
        elif key not in _READ and key not in _CHANGES_NOTHING:
            raise ConfigKeyUnjudged(source=source, key=key, value=str(value)[:80])
    layers = values.get("layer_types")
    plain = isinstance(layers, list) and layers == ["full_attention"] * len(layers)
    if layers is not None and not plain:
        raise FeatureUnsupported(source=source, field="layer_types", value=str(layers)[:80])


def _rope(values: Mapping[str, Any], source: str) -> tuple[Any, RopeScaling | None]:
    """The base and the scaling, from the old spelling (two keys) or the new one (`rope_parameters`)."""
    old = {name: values[name] for name in ("rope_theta", "rope_scaling") if values.get(name) is not None}
    new = values.get("rope_parameters")
    if new is None:
        return old.get("rope_theta"), parse_rope_scaling(old.get("rope_scaling"), source)
    if not isinstance(new, Mapping):
        raise ConfigValueBad(source=source, field="rope_parameters", value=repr(new)[:80], limit="an object")
    if "rope_scaling" in old or old.get("rope_theta", new.get("rope_theta")) != new.get("rope_theta"):
        limit = "the only spelling of it; the older rope_theta or rope_scaling is there too and differs"
        raise ConfigValueBad(source=source, field="rope_parameters", value=str(new)[:80], limit=limit)
    given = dict(new)
    if given.pop("partial_rotary_factor", 1.0) not in _MUST_BE["partial_rotary_factor"]:
        raise FeatureUnsupported(
            source=source, field="partial_rotary_factor", value=str(new["partial_rotary_factor"])
        )
    return new.get("rope_theta"), parse_rope_scaling(given, source)


def _head_dim(values: Mapping[str, Any], source: str) -> Any:
    if values.get("head_dim") is not None:
        return values["head_dim"]
    # All three architectures define it as this quotient where it is not given.
    hidden, heads = values["hidden_size"], values["num_attention_heads"]
    if type(hidden) is not int or type(heads) is not int or heads < 1 or hidden % heads:
        limit = f"a divisor of hidden_size = {hidden}"
        raise ConfigValueBad(source=source, field="num_attention_heads", value=str(heads), limit=limit)
    return hidden // heads


def _sliding_window(values: Mapping[str, Any], source: str) -> Any:
    window = values.get("sliding_window")
    if values["model_type"] == "mistral":
        if "sliding_window" not in values:  # its class then assumes 4096
            raise ConfigFieldMissing(source=source, fields="sliding_window")
        return window
    if window is None or values["model_type"] == "llama":
        if window is not None:
            raise ConfigKeyUnjudged(source=source, key="sliding_window", value=str(window))
        return None
    if "use_sliding_window" not in values:
        raise ConfigFieldMissing(source=source, fields="use_sliding_window")
    if values["use_sliding_window"] is not False:
        # qwen2 applies it from layer max_window_layers on; the decoder has one window for all.
        raise FeatureUnsupported(
            source=source, field="use_sliding_window", value=str(values["use_sliding_window"])
        )
    return None


def _as_float(value: Any) -> Any:
    return float(value) if type(value) is int else value
