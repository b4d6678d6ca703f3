"""Counts that follow from a config: parameters, floating-point operations, memory."""

from __future__ import annotations

from apr.arch.config import TransformerConfig
from apr.arch.inventory import inventory

_CHUNK_LOGITS = 1 << 25  # as `apr.model.loss` computes them


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


def evidence_memory_bytes(config: TransformerConfig, *, seq_length: int, compute_bytes: int) -> int:
    """An upper estimate of the memory that step zero takes without training, in bytes.

    The checkpoint and the random-weights control in fp32 (8 bytes a parameter), one compute copy when it is not
    fp32, the activations of one block, and a chunk of fp32 logits with two more like it for their softmax. Sequences
    are evaluated one by one, and nothing is kept for a backward pass.
    """
    copy = compute_bytes if compute_bytes < 4 else 0
    activations = seq_length * _activations_per_token(config) * (compute_bytes + 2)
    logits = 3 * 4 * min(seq_length * config.vocab_size, _CHUNK_LOGITS)
    return (8 + copy) * parameter_count(config) + activations + logits


def training_memory_bytes(
    config: TransformerConfig, *, batch_size: int, seq_length: int, compute_bytes: int
) -> int:
    """An upper estimate of the memory that training takes, in bytes.

    fp32 weights, gradients and two moments (16 bytes a parameter), one compute copy of the weights when it is
    not fp32, and the activations that the backward pass keeps. The activation count per token and layer
    is what the decoder saves: the block's inputs and norms, q, k, v, attention output, and three MLP tensors.
    """
    parameters = parameter_count(config)
    state = 16 * parameters + (compute_bytes * parameters if compute_bytes < 4 else 0)
    tokens = batch_size * seq_length
    per_token = config.num_hidden_layers * _activations_per_token(config)
    return state + tokens * per_token * (compute_bytes + 2)


def _activations_per_token(config: TransformerConfig) -> int:
    query = config.num_attention_heads * config.head_dim
    return 6 * config.hidden_size + 4 * query + 4 * config.intermediate_size
