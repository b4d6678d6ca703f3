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


def matrix_count(config: TransformerConfig) -> int:
    """Parameters in matrices, the embedding and a tied head counted once: what a narrower compute type copies."""
    return sum(spec.num_elements for spec in inventory(config) if len(spec.shape) > 1)


def kept_bytes_per_token(config: TransformerConfig, compute_bytes: int) -> int:
    """What the backward pass keeps of one token, in bytes: what autograd saves in `apr.model.decoder`, term by term.

    A norm keeps its input, its scaled output (both fp32) and a factor, and the map behind it its input; attention keeps
    q, k, v and its output, each as wide as the query heads, and a log-sum for each head; the feed-forward four values
    of its width. A test holds this against what autograd saves.
    """
    D, N = config.hidden_size, config.num_attention_heads
    width = N * config.head_dim
    norm = 8 * D + 4
    attention = 4 * width * compute_bytes + 4 * N
    feed_forward = 4 * config.intermediate_size * compute_bytes
    block = 2 * (norm + D * compute_bytes) + attention + feed_forward
    return config.num_hidden_layers * block + norm + D * compute_bytes + 8  # the final norm; the id itself
