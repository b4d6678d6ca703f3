"""A config from the keys that other programs write, with nothing filled in.

Those keys have no word for biases, ties, the activation or stretched rotary frequencies. The first two are
read from the tensors; the activation is part of the family; where a model is known to need one of the others,
its absence is an error like that of any other field.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from apr.aprfile.errors import ArchContradiction, MetadataContradiction, ProducerUnsupported
from apr.aprfile.evidence import Shapes, common_shape, has_attention_bias, head_is_copy
from apr.aprfile.keys import FIELDS, HF_CLASSES, stated
from apr.aprfile.reader import AprFile
from apr.arch.config import FAMILIES, TransformerConfig, parse_config, parse_rope_scaling
from apr.arch.errors import ArchitectureUnsupported, ConfigFieldMissing
from apr.arch.inventory import HEAD

STAMPS = ("architecture", "hf_architecture", "hf_model_type")
_SLUGS = {name.lower(): family for family, name in HF_CLASSES.items()} | {
    **{family: family for family in FAMILIES},
    "mistral": "llama",
    "mistralforcausallm": "llama",
}
_NO_STAMP = ("", "auto", "unknown")
_HIDDEN_ACT = {"llama": "silu", "qwen2": "silu"}
_HAS_BIAS = {"llama": False, "qwen2": True}


def read_foreign_config(file: AprFile, shapes: Shapes) -> tuple[TransformerConfig, dict[str, Any]]:
    """Read the config of a file that does not describe itself in our terms.

    Args:
        file: an open file without `apr_pretrain`.
        shapes: its model's tensors.

    Returns:
        The config, and how the tie was decided.

    Raises:
        ProducerUnsupported: its weights lie transposed.
        ArchitectureUnsupported: another architecture.
        ConfigFieldMissing: naming every field that is not there.
        MetadataContradiction, ArchContradiction: two of its statements, or one and its tensors, differ.
        ConfigValueBad, FeatureUnsupported: see `apr.arch.config.parse_config`.
    """
    metadata, source = file.metadata, str(file.path)
    _refuse_transposed(metadata, source)
    family, is_mistral = _read_family(metadata, source)
    values = _read_values(metadata, source)
    _derive_head_dim(values, shapes)
    missing = [key for key, field in FIELDS.items() if field not in values]
    missing += _unsaid(metadata, family, is_mistral, values)
    if missing:
        raise ConfigFieldMissing(source=source, fields=", ".join(missing))
    tie = _decide_tie(file, source)
    config = {
        **values,
        "family": family,
        "rope_scaling": parse_rope_scaling(metadata.get("rope_scaling"), source),
        "hidden_act": _HIDDEN_ACT[family],
        "attention_bias": _read_bias(family, shapes, source),
        "tie_word_embeddings": tie["tied"],
        "sliding_window": _window(metadata),
    }
    return parse_config(config, source), tie


def _refuse_transposed(metadata: Mapping[str, Any], source: str) -> None:
    written_as = metadata.get("format")
    if isinstance(written_as, str) and written_as.startswith("entrenar-"):
        reason = "its linear weights lie [in, out] under shapes that say [out, in]"
        raise ProducerUnsupported(path=source, format=written_as, reason=reason)


def _read_family(metadata: Mapping[str, Any], source: str) -> tuple[str, bool]:
    stamps = {key: str(metadata[key]) for key in STAMPS if metadata.get(key) is not None}
    stamps = {key: stamp for key, stamp in stamps.items() if stamp.lower() not in _NO_STAMP}
    if not stamps:
        raise ConfigFieldMissing(source=source, fields="architecture")
    for stamp in stamps.values():
        if stamp.lower() not in _SLUGS:
            raise ArchitectureUnsupported(source=source, architecture=stamp, supported=", ".join(FAMILIES))
    families = {_SLUGS[stamp.lower()] for stamp in stamps.values()}
    if len(families) > 1:
        raise _contradiction(source, stamps)
    return families.pop(), any(stamp.lower().startswith("mistral") for stamp in stamps.values())


def _contradiction(source: str, values: Mapping[str, Any]) -> MetadataContradiction:
    listed = ", ".join(f"{name} = {value}" for name, value in values.items())
    return MetadataContradiction(path=source, fields=", ".join(values), differences=listed)


def _read_values(metadata: Mapping[str, Any], source: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, field in FIELDS.items():
        spellings = stated(metadata, key)
        found = list(spellings.values())
        if any(value != found[0] for value in found):
            raise _contradiction(source, spellings)
        if found:
            values[field] = _shortest(found[0])
    return values


def _shortest(value: Any) -> Any:
    """The shortest decimal of a number that the writer held in fp32: 9.999999974752427e-07 was 1e-06."""
    if not isinstance(value, float):
        return value
    try:
        rounded = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return value
    return float(str(np.float32(value))) if rounded == value else value


def _derive_head_dim(values: dict[str, Any], shapes: Shapes) -> None:
    """Read the head's width from the query projection where the file, being older, does not say it."""
    query, heads = common_shape(shapes, "self_attn.q_proj.weight"), values.get("num_attention_heads")
    if "head_dim" in values or query is None or not isinstance(heads, int) or heads < 1:
        return
    if query and query[0] % heads == 0:
        values["head_dim"] = query[0] // heads


def _unsaid(
    metadata: Mapping[str, Any], family: str, is_mistral: bool, values: Mapping[str, Any]
) -> list[str]:
    """Fields that the keys have no word for, of models that are known to need them."""
    missing = []
    if is_mistral and metadata.get("sliding_window") is None:
        missing.append("sliding_window")  # 4096 in the first version, none in the third
    positions = values.get("max_position_embeddings")
    is_long_llama_3 = family == "llama" and values.get("rope_theta") == 5e5 and positions != 8192
    if is_long_llama_3 and metadata.get("rope_scaling") is None:
        missing.append("rope_scaling")  # Llama 3.1 and later stretch it; Llama 3 stops at 8192
    return missing


def _window(metadata: Mapping[str, Any]) -> Any:
    return None if metadata.get("use_sliding_window") is False else metadata.get("sliding_window")


def _read_bias(family: str, shapes: Shapes, source: str) -> bool:
    found = bool(has_attention_bias(shapes))
    if found != _HAS_BIAS[family]:
        # A stamp that the tensors belie has cost others months: the wrong family trains, only worse.
        claim = (
            f"family is {family} there, with attention_bias {_HAS_BIAS[family]}, and {found} in the tensors"
        )
        raise ArchContradiction(source=source, fields="family, attention_bias", differences=claim)
    return found


def _decide_tie(file: AprFile, source: str) -> dict[str, Any]:
    claims = {
        key: file.metadata[key]
        for key in ("tied_embeddings", "tie_word_embeddings")
        if isinstance(file.metadata.get(key), bool)
    }
    if HEAD in file.aliases:
        tie = {"tied": True, "rule": "the head is stored as the embedding"}
    elif HEAD not in file.entries:
        tie = {"tied": True, "rule": "the file stores no head"}
    elif head_is_copy(file):
        tie = {"tied": True, "rule": "the stored head equals the embedding in every value"}
    else:
        tie = {"tied": False, "rule": "the stored head is another matrix than the embedding"}
    if any(claim != tie["tied"] for claim in claims.values()):
        raise _contradiction(source, {**claims, "the tensors": tie["rule"]})
    return tie
