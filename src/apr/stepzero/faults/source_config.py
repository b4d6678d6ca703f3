"""Faults of a source folder that lie in its config.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from apr.stepzero.faults.fault import Fault
from apr.stepzero.faults.folders import edit_config, heads, read_config, write_bytes
from apr.stepzero.faults.planting import source_fault
from apr.stepzero.faults.source_weights import has_no_biases, is_tied, is_untied

_CLASSES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}


def _has_key_value_groups(config: Any) -> bool:
    return bool(config.num_key_value_heads != config.num_attention_heads)


def _has_halvable_heads(config: Any) -> bool:
    return bool(config.head_dim % 4 == 0)


def _has_scaling(config: Any) -> bool:
    return config.rope_scaling is not None


def _has_no_scaling(config: Any) -> bool:
    return config.rope_scaling is None


def _set(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit_config(folder, **changes)


def _scale(field: str, factor: float) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        value = read_config(folder)[field] * factor
        edit_config(folder, **{field: round(value) if factor > 1 else value})

    return edit


def _rope(folder: Path) -> dict[str, Any]:
    """Base and scaling, in the new spelling."""
    values = read_config(folder)
    old = values.get("rope_scaling") or {"rope_type": "default"}
    return dict(values.get("rope_parameters") or {"rope_theta": values["rope_theta"]} | old)


def _write_rope(folder: Path, rope: dict[str, Any]) -> None:
    """Write it in the spelling that the folder has."""
    if read_config(folder).get("rope_parameters"):
        edit_config(folder, rope_parameters=rope)
        return
    theta = rope.pop("rope_theta", ...)
    edit_config(folder, rope_theta=theta, rope_scaling=rope if rope.get("factor") else None)


def _theta_dropped(folder: Path) -> None:
    rope = _rope(folder)
    del rope["rope_theta"]
    _write_rope(folder, rope)


def _theta_changed(folder: Path) -> None:
    rope = _rope(folder)
    rope["rope_theta"] = 10_000.0 if rope["rope_theta"] != 10_000.0 else 1_000_000.0
    _write_rope(folder, rope)


def _theta_contradicted(folder: Path) -> None:
    rope = _rope(folder)
    other = 10_000.0 if rope["rope_theta"] != 10_000.0 else 1_000_000.0
    edit_config(
        folder, rope_theta=rope["rope_theta"], rope_scaling=..., rope_parameters=rope | {"rope_theta": other}
    )


def _scaled(**scaling: Any) -> Callable[[Path], None]:
    return lambda folder: _write_rope(folder, {"rope_theta": _rope(folder)["rope_theta"]} | scaling)


def _yarn(folder: Path) -> None:
    trained = read_config(folder)["max_position_embeddings"] // 4
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": trained}
    _write_rope(folder, {"rope_theta": _rope(folder)["rope_theta"]} | rope)


def _heads_contradicted(folder: Path) -> None:
    num_heads, _, head_dim = heads(folder)
    edit_config(folder, num_attention_heads=2 * num_heads, head_dim=head_dim)


def _heads_halved(folder: Path) -> None:
    # Every matrix keeps its shape: twice as many heads of half the width.
    num_heads, num_kv_heads, head_dim = heads(folder)
    edit_config(
        folder,
        num_attention_heads=2 * num_heads,
        num_key_value_heads=2 * num_kv_heads,
        head_dim=head_dim // 2,
    )


def _key_value_heads(folder: Path) -> None:
    edit_config(folder, num_key_value_heads=heads(folder)[0])


def _eps_changed(folder: Path) -> None:
    eps = read_config(folder)["rms_norm_eps"]
    edit_config(folder, rms_norm_eps=1e-5 if eps != 1e-5 else 1e-6)


def _layer_fewer(folder: Path) -> None:
    values = read_config(folder)
    fewer = {"num_hidden_layers": values["num_hidden_layers"] - 1}
    if values.get("layer_types"):
        fewer["layer_types"] = values["layer_types"][:-1]
    edit_config(folder, **fewer)


def _vocabulary_padded(folder: Path) -> None:
    edit_config(folder, vocab_size=read_config(folder)["vocab_size"] + 64)


def _other_family(folder: Path) -> None:
    kind = "qwen2" if read_config(folder)["model_type"] == "llama" else "llama"
    edit_config(folder, model_type=kind, architectures=[_CLASSES[kind]])


def _class_contradicted(folder: Path) -> None:
    kind = "qwen2" if read_config(folder)["model_type"] == "llama" else "llama"
    edit_config(folder, architectures=[_CLASSES[kind]])


def _key_repeated(folder: Path) -> None:
    # Readers take the last one.
    path = folder / "config.json"
    text = path.read_text(encoding="utf-8").rstrip()
    again = json.dumps(read_config(folder)["rms_norm_eps"] * 1000)
    write_bytes(path, f'{text[:-1].rstrip()}, "rms_norm_eps": {again}}}'.encode())


def _cut_off(folder: Path) -> None:
    path = folder / "config.json"
    content = path.read_bytes()
    write_bytes(path, content[: len(content) // 2])


_fault = partial(source_fault, "config")
_of_tensors = partial(source_fault, "tensors")  # every key is fine by itself, and the weights are not of it
_trust = partial(source_fault, "trust")
CONFIG_FAULTS: tuple[Fault, ...] = (
    _fault(
        "rope-base-dropped",
        "the rope base was dropped from config.json",
        _theta_dropped,
        *("S-34", "S-125"),
        quick=True,
    ),
    _trust(
        "rope-base-changed",
        "the rope base in config.json was another",
        _theta_changed,
        *("S-53", "S-125"),
        quick=True,
    ),
    _fault(
        "rope-base-contradicted",
        "config.json named two rope bases, one in the old spelling and one in the new",
        _theta_contradicted,
        "S-125",
    ),
    _trust(
        "rope-scaling-dropped",
        "the rope scaling was dropped from config.json",
        lambda folder: _write_rope(
            folder, {"rope_theta": _rope(folder)["rope_theta"], "rope_type": "default"}
        ),
        "S-125",
        needs=_has_scaling,
    ),
    _trust(
        "rope-scaling-added",
        "a rope scaling was added to config.json",
        _scaled(rope_type="linear", factor=4.0),
        "S-125",
        needs=_has_no_scaling,
    ),
    _fault(
        "rope-scaling-unsupported",
        "config.json named a rope scaling that this decoder does not compute",
        _yarn,
        *("S-37", "S-125"),
    ),
    _of_tensors(
        "heads-contradicted",
        "the number of attention heads in config.json was doubled",
        _heads_contradicted,
        "S-125",
    ),
    _trust(
        "heads-halved",
        "config.json named twice as many heads of half the width, which fits every matrix",
        _heads_halved,
        "S-125",
        needs=_has_halvable_heads,
    ),
    _of_tensors(
        "key-value-heads-changed",
        "config.json named as many key-value heads as query heads",
        _key_value_heads,
        *("S-34", "S-125"),
        needs=_has_key_value_groups,
    ),
    _fault(
        "key-value-heads-dropped",
        "the number of key-value heads was dropped from config.json",
        _set(num_key_value_heads=...),
        "S-34",
    ),
    _fault("activation", "config.json named another activation", _set(hidden_act="gelu"), "S-125"),
    _trust(
        "norm-eps-changed", "the norm's epsilon in config.json was another", _eps_changed, *("S-52", "S-125")
    ),
    _fault(
        "norm-eps-dropped",
        "the norm's epsilon was dropped from config.json",
        _set(rms_norm_eps=...),
        *("S-34", "S-52"),
    ),
    _of_tensors("layer-fewer", "config.json named a layer fewer than the weights have", _layer_fewer, "S-31"),
    _of_tensors(
        "vocabulary-padded", "config.json named more rows than the embedding has", _vocabulary_padded, "S-20"
    ),
    _of_tensors(
        "tie-denied",
        "config.json said that a tied head is a matrix of its own",
        _set(tie_word_embeddings=False),
        *("S-27", "S-28"),
        needs=is_tied,
    ),
    _fault(
        "tie-claimed",
        "config.json said that an untied head is the embedding",
        _set(tie_word_embeddings=True),
        *("S-28", "S-29"),
        needs=is_untied,
    ),
    _fault(
        "biases-claimed",
        "config.json said that there are biases, and there are none",
        _set(attention_bias=True),
        *("S-30", "S-33"),
        needs=has_no_biases,
    ),
    _fault(
        "sliding-window",
        "config.json switched a sliding window on",
        _set(sliding_window=4, use_sliding_window=True, max_window_layers=0, layer_types=...),
        "S-125",
    ),
    _fault(
        "unknown-key",
        "config.json had a key of another architecture",
        _set(residual_multiplier=0.22),
        *("S-09", "S-37"),
    ),
    _of_tensors("family-changed", "config.json named another family", _other_family, *("S-33", "S-35")),
    _fault(
        "class-contradicted",
        "model_type and architectures of config.json named two families",
        _class_contradicted,
        "S-35",
    ),
    _fault(
        "class-dropped",
        "the architecture was dropped from config.json",
        _set(architectures=...),
        *("S-33", "S-82"),
    ),
    _fault(
        "encoder",
        "config.json was that of an encoder",
        _set(model_type="bert", architectures=["BertModel"]),
        "S-26",
        quick=True,
    ),
    _fault(
        "quantised",
        "config.json said that the weights are quantised",
        _set(quantization_config={"quant_method": "gptq", "bits": 4}),
        "S-39",
    ),
    _fault(
        "key-repeated",
        "config.json had the norm's epsilon twice, with two values",
        _key_repeated,
        *("S-09", "S-15"),
    ),
    _fault("config-cut-off", "config.json broke off in the middle", _cut_off, "S-110"),
    _trust(
        "context-changed",
        "config.json named twice the context length",
        _scale("max_position_embeddings", 2),
        "S-34",
    ),
)
