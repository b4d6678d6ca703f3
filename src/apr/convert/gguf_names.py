"""GGUF's spelling of tensors: names, and the order of rows in llama's q and k."""

from __future__ import annotations

import re

import numpy as np

from apr.arch.config import TransformerConfig
from apr.arch.inventory import EMBEDDING, FINAL_NORM, HEAD

ROPE_FACTORS = "rope_freqs.weight"

_TOP = {"token_embd.weight": EMBEDDING, "output_norm.weight": FINAL_NORM, "output.weight": HEAD}
_IN_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TOP_BACK = {ours: theirs for theirs, ours in _TOP.items()}
_IN_BLOCK_BACK = {ours: theirs for theirs, ours in _IN_BLOCK.items()}
_THEIRS = re.compile(r"blk\.(0|[1-9]\d*)\.(\w+)\.(weight|bias)")
_OURS = re.compile(r"model\.layers\.(0|[1-9]\d*)\.([\w.]+)\.(weight|bias)")


def our_name(theirs: str) -> str | None:
    """Our name of a GGUF tensor; None for one that no rule covers, even if it is spelled like one of ours."""
    if theirs in _TOP:
        return _TOP[theirs]
    match = _THEIRS.fullmatch(theirs)
    if match is None or match[2] not in _IN_BLOCK:
        return None
    return f"model.layers.{match[1]}.{_IN_BLOCK[match[2]]}.{match[3]}"


def gguf_name(ours: str) -> str:
    """The GGUF name of one of our tensors; the inverse of `our_name`."""
    if ours in _TOP_BACK:
        return _TOP_BACK[ours]
    match = _OURS.fullmatch(ours)
    if match is None or match[2] not in _IN_BLOCK_BACK:
        return ours
    return f"blk.{match[1]}.{_IN_BLOCK_BACK[match[2]]}.{match[3]}"


def row_order(config: TransformerConfig, name: str) -> np.ndarray | None:
    """Which rows of the GGUF tensor make ours: `ours = theirs[order]`; None where the order is the same.

    llama's q and k stand in GGUF with the two halves of each head interleaved, because its rotary kernel
    turns adjacent pairs. Ours turns (i, i + H/2), as Hugging Face's does; qwen2's GGUF files have that
    order already. Whole rows move, so the same order holds for quantised rows. A wrong order gives finite,
    plausible nonsense.
    """
    if config.family != "llama" or not name.endswith(("q_proj.weight", "k_proj.weight")):
        return None
    heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
    rows = np.arange(heads * config.head_dim).reshape(heads, config.head_dim // 2, 2)
    return rows.swapaxes(1, 2).reshape(-1)
