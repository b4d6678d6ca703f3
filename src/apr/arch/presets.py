"""Published configurations by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from apr.arch.config import TransformerConfig, parse_config
from apr.arch.errors import PresetUnknown
from apr.base.files import read_json

_LLAMA = TransformerConfig(
    family="llama",
    vocab_size=32000,
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=32,
    head_dim=128,
    max_position_embeddings=4096,
    rms_norm_eps=1e-5,
    rope_theta=1e4,
    rope_scaling=None,
    hidden_act="silu",
    attention_bias=False,
    tie_word_embeddings=False,
    sliding_window=None,
)
_QWEN2 = TransformerConfig(
    family="qwen2",
    vocab_size=151936,
    hidden_size=896,
    intermediate_size=4864,
    num_hidden_layers=24,
    num_attention_heads=14,
    num_key_value_heads=2,
    head_dim=64,
    max_position_embeddings=32768,
    rms_norm_eps=1e-6,
    rope_theta=1e6,
    rope_scaling=None,
    hidden_act="silu",
    attention_bias=True,
    tie_word_embeddings=True,
    sliding_window=None,
)

# Every preset spells out whatever differs from the two above; the tie flag of each was checked against the
# published config, because a wrong one trains a random head.
PRESETS: dict[str, TransformerConfig] = {
    "llama-370m": replace(
        _LLAMA,
        vocab_size=50257,
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=24,
        num_attention_heads=16,
        num_key_value_heads=4,
        head_dim=64,
        tie_word_embeddings=True,
    ),
    "llama2-7b": _LLAMA,
    "llama2-13b": replace(
        _LLAMA,
        hidden_size=5120,
        intermediate_size=13824,
        num_hidden_layers=40,
        num_attention_heads=40,
        num_key_value_heads=40,
    ),
    "mistral-7b": replace(
        _LLAMA, intermediate_size=14336, num_key_value_heads=8, max_position_embeddings=32768
    ),
    "qwen2-0.5b": _QWEN2,
    "qwen2-1.5b": replace(
        _QWEN2,
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=28,
        num_attention_heads=12,
        head_dim=128,
    ),
    "qwen2-7b": replace(
        _QWEN2,
        vocab_size=152064,
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        head_dim=128,
        tie_word_embeddings=False,
    ),
    "smollm2-135m": replace(
        _LLAMA,
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        head_dim=64,
        max_position_embeddings=8192,
        rope_theta=1e5,
        tie_word_embeddings=True,
    ),
    "tiny": replace(
        _LLAMA,
        vocab_size=1000,
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        rms_norm_eps=1e-6,
    ),
}


def find_config(name: str) -> TransformerConfig:
    """Return the preset of that name, or parse the JSON config file at that path.

    Raises:
        PresetUnknown: neither exists.
        BadJson, ConfigFieldMissing, ConfigFieldUnknown, ConfigValueBad: the file is not a config.
    """
    if name in PRESETS:
        return PRESETS[name]
    path = Path(name)
    if not path.is_file():
        raise PresetUnknown(name=name, known=", ".join(PRESETS))
    return parse_config(read_json(path), source=name)
