"""Counts that follow from a config: parameters, floating-point operations, memory."""

from __future__ import annotations

from apr.arch.config import TransformerConfig
from apr.arch.inventory import inventory


def parameter_count(config: TransformerConfig) -> int:
    """Stored parameters; a tied head is counted once."""
    return sum(spec.num_elements for spec in inventory(config))


def training_flops_per_token(config: TransformerConfig, seq_length: int) -> int:
    """Floating-point operations of one training token: 6 per weight that is multiplied, plus attention.

    The embedding lookup multiplies nothing, the head does (tied or not); attention adds 12 * L * N * H * T / 2 for
    the causal half (Kaplan et al. 2020, arXiv:2001.08361, with the mask).
    """
    embedding = config.vocab_size * config.hidden_size
    multiplied = parameter_count(config) - (0 if config.tie_word_embeddings else embedding)
    attention = 6 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * seq_length
    return 6 * multiplied + attention
