"""TransformerConfig: everything that decides what the decoder computes.

One frozen value for every family. What differs between families is data in it (biases, scaling, ties), so two
models can be compared field by field and a certificate can print it. Nothing has a default: a config read from
a file either says a thing or is refused, because a defaulted rope base or norm epsilon trains without a sign.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from apr.arch.errors import (
    ArchitectureUnsupported,
    ConfigFieldMissing,
    ConfigFieldUnknown,
    ConfigValueBad,
    FeatureUnsupported,
)

FAMILIES = ("llama", "qwen2")
_COUNTS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
)
# Larger than any published model; a crafted file must not ask for petabytes, nor for an inventory without end.
_MAX_COUNT = 1 << 24
_MAX_LAYERS = 1 << 12


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """How rotary frequencies are stretched for longer contexts.

    `linear` divides every frequency by `factor` (Chen et al. 2023, arXiv:2306.15595); `llama3` divides the low
    ones and blends between the two wavelengths (Llama 3.1, arXiv:2407.21783).
    """

    rope_type: Literal["linear", "llama3"]
    factor: float
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    original_max_position_embeddings: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerConfig:
    """A decoder-only transformer, complete."""

    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    hidden_act: str
    attention_bias: bool  # on q, k and v; no supported family has one on o or in the MLP
    tie_word_embeddings: bool
    sliding_window: int | None

    @property
    def num_query_groups(self) -> int:
        """Query heads that share one key-value head."""
        return self.num_attention_heads // self.num_key_value_heads

    @property
    def sequence_limit(self) -> tuple[str, int]:
        """The longest sequence that the decoder computes as published, with the field that says so."""
        # Beyond its window a sliding-window model attends otherwise than this decoder does.
        if self.sliding_window is not None and self.sliding_window < self.max_position_embeddings:
            return "sliding_window", self.sliding_window
        return "max_position_embeddings", self.max_position_embeddings

    def to_dict(self) -> dict[str, Any]:
        """The config as JSON values; `parse_config` reads it back to an equal config."""
        return asdict(self)


def parse_config(values: Mapping[str, Any], source: str) -> TransformerConfig:
    """Read a config strictly: every field present, none unknown, every value in range.

    Args:
        values: the mapping that `TransformerConfig.to_dict` makes.
        source: where it came from, for messages.

    Raises:
        ConfigFieldMissing, ConfigFieldUnknown, ConfigValueBad, ArchitectureUnsupported, FeatureUnsupported.
    """
    names = [field.name for field in fields(TransformerConfig)]
    if unknown := [name for name in values if name not in names]:
        nearest = difflib.get_close_matches(unknown[0], names, n=1, cutoff=0.0)[0]
        raise ConfigFieldUnknown(source=source, field=unknown[0], nearest=nearest)
    if missing := [name for name in names if name not in values]:
        raise ConfigFieldMissing(source=source, fields=", ".join(missing))
    scaling = values["rope_scaling"]
    config = TransformerConfig(**{**values, "rope_scaling": parse_rope_scaling(scaling, source)})
    check_config(config, source)
    return config


def parse_rope_scaling(value: Any, source: str) -> RopeScaling | None:
    """Read rope scaling in its old (`type`) or new (`rope_type`) spelling; None and `default` mean none.

    Raises:
        FeatureUnsupported: a scaling that the decoder does not compute (yarn, dynamic, longrope).
        ConfigValueBad: a parameter is missing or unknown.
    """
    if value is None:
        return None
    if isinstance(value, RopeScaling):
        return value
    if not isinstance(value, Mapping):
        raise ConfigValueBad(
            source=source, field="rope_scaling", value=repr(value), limit="an object or null"
        )
    given = {key: item for key, item in value.items() if item is not None and key != "rope_theta"}
    spellings = [given.pop(key) for key in ("rope_type", "type") if key in given]
    kind = spellings[0] if spellings else None
    if any(spelling != kind for spelling in spellings):
        raise ConfigValueBad(
            source=source, field="rope_scaling.type", value=repr(spellings[1]), limit=repr(kind)
        )
    if kind in (None, "default") and not given:
        return None
    if kind not in ("linear", "llama3"):
        raise FeatureUnsupported(source=source, field="rope_scaling.rope_type", value=str(kind))
    wanted = ["factor"]
    if kind == "llama3":
        wanted += ["low_freq_factor", "high_freq_factor", "original_max_position_embeddings"]
    if sorted(given) != sorted(wanted):
        raise ConfigValueBad(
            source=source,
            field="rope_scaling",
            value=", ".join(sorted(given)),
            limit=f"exactly {', '.join(wanted)}",
        )
    _check_scaling(given, source)
    return RopeScaling(rope_type=kind, **given)


def _check_scaling(given: Mapping[str, Any], source: str) -> None:
    def require(name: str, holds: bool, limit: str) -> None:
        if not holds:
            raise ConfigValueBad(
                source=source, field=f"rope_scaling.{name}", value=repr(given[name]), limit=limit
            )

    for name, item in given.items():
        require(name, _is_positive(item), "a finite number above 0")
    if "low_freq_factor" in given:
        low, length = given["low_freq_factor"], "original_max_position_embeddings"
        require("high_freq_factor", given["high_freq_factor"] > low, f"above low_freq_factor = {low}")
        require(length, _is_count(given[length], _MAX_COUNT), "a whole number")


def check_config(config: TransformerConfig, source: str) -> None:
    """Check ranges and what the fields imply for each other.

    Raises:
        ConfigValueBad, ArchitectureUnsupported, FeatureUnsupported: naming the field and its value.
    """

    def bad(field: str, limit: str) -> ConfigValueBad:
        return ConfigValueBad(source=source, field=field, value=repr(getattr(config, field)), limit=limit)

    if config.family not in FAMILIES:
        raise ArchitectureUnsupported(
            source=source, architecture=str(config.family), supported=", ".join(FAMILIES)
        )
    for name in _COUNTS:
        limit = _MAX_LAYERS if name == "num_hidden_layers" else _MAX_COUNT
        if not _is_count(getattr(config, name), limit):
            raise bad(name, f"a whole number from 1 to {limit:,}")
    for name in ("rms_norm_eps", "rope_theta"):
        if not _is_positive(getattr(config, name)):
            raise bad(name, "a finite number above 0")
    for name in ("attention_bias", "tie_word_embeddings"):
        if not isinstance(getattr(config, name), bool):
            raise bad(name, "true or false")
    if config.num_attention_heads % config.num_key_value_heads:
        raise bad("num_key_value_heads", f"a divisor of num_attention_heads = {config.num_attention_heads}")
    if config.head_dim % 2:
        raise bad("head_dim", "even, as rotary embedding turns pairs")
    if config.hidden_act != "silu":
        raise FeatureUnsupported(source=source, field="hidden_act", value=str(config.hidden_act))
    window = config.sliding_window
    if window is not None and (isinstance(window, bool) or not isinstance(window, int) or window < 1):
        raise bad("sliding_window", "a whole number from 1, or null")


def _is_count(value: Any, limit: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= limit


def _is_positive(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 < value <= sys.float_info.max  # also an int that no float can hold


def config_differences(left: TransformerConfig, right: TransformerConfig) -> list[tuple[str, Any, Any]]:
    """Fields in which two configs differ, as (name, left value, right value)."""
    pairs = [(field.name, getattr(left, field.name), getattr(right, field.name)) for field in fields(left)]
    return [pair for pair in pairs if pair[1] != pair[2]]
