"""The decoder: one module for every family; what differs is in its config.

Parameters are kept in fp32 (the master weights) and cast where they are used, so the compute type is an argument
of the forward pass and not a property of the weights. Parameter names are the checkpoint's names. A tied head is
no parameter of its own: the embedding is used twice, so it cannot be trained alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from apr.arch.config import TransformerConfig
from apr.model.cache import KVCache
from apr.model.errors import SequenceTooLong
from apr.model.masks import document_mask
from apr.model.rope import rope_tables, rotate

Observer = Callable[[str, Tensor], None]


class Linear(nn.Module):
    """An affine map whose fp32 weight [out, in] is cast to the input's dtype; an adapter may add to it."""

    def __init__(self, in_features: int, out_features: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        self.adapter: nn.Module | None = None  # see apr.model.lora

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in] to [..., out] in the dtype of x."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        out = F.linear(x, self.weight.to(x.dtype), bias)
        return out if self.adapter is None else out + self.adapter(x)


class Embedding(nn.Module):
    """A table [V, D]. torch's own draws its values on construction, also on the meta device, and takes a second."""

    def __init__(self, num_rows: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_rows, size))

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Look up ids [B, T]; fp32 [B, T, D]."""
        return F.embedding(ids_BT, self.weight)


class RMSNorm(nn.Module):
    """Root-mean-square normalisation (Zhang and Sennrich 2019, arXiv:1910.07467), computed in fp32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Normalise the last axis; same shape and dtype."""
        wide = x_BTD.float()
        normal = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (self.weight * normal).to(x_BTD.dtype)


class Attention(nn.Module):
    """Causal self-attention with grouped key-value heads (Ainslie et al. 2023, arXiv:2305.13245)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        D, H = config.hidden_size, config.head_dim
        N, K, bias = config.num_attention_heads, config.num_key_value_heads, config.attention_bias
        self.head_dim = H
        self.num_query_groups = config.num_query_groups
        self.q_proj = Linear(D, N * H, bias)
        self.k_proj = Linear(D, K * H, bias)
        self.v_proj = Linear(D, K * H, bias)
        self.o_proj = Linear(N * H, D)

    def forward(
        self,
        x_BTD: Tensor,
        rope: tuple[Tensor, Tensor],
        cache: KVCache | None,
        layer: int,
        mask_B1TT: Tensor | None = None,
    ) -> Tensor:
        """Attend; [B, T, D] to [B, T, D]. With a cache, keys and values of earlier positions come from it.

        Without a mask, what is added to the scores, a token attends to itself and to all before it.
        """
        B, T, _ = x_BTD.shape
        q_BNTH = self.q_proj(x_BTD).view(B, T, -1, self.head_dim).transpose(1, 2)
        k_BKTH = self.k_proj(x_BTD).view(B, T, -1, self.head_dim).transpose(1, 2)
        v_BKTH = self.v_proj(x_BTD).view(B, T, -1, self.head_dim).transpose(1, 2)
        q_BNTH, k_BKTH = rotate(q_BNTH, *rope), rotate(k_BKTH, *rope)
        if cache is not None:
            k_BKTH, v_BKTH = cache.append(layer, k_BKTH, v_BKTH)
        # Query head n reads key-value head n // groups, for any ratio.
        k_BNTH = k_BKTH.repeat_interleave(self.num_query_groups, dim=1)
        v_BNTH = v_BKTH.repeat_interleave(self.num_query_groups, dim=1)
        mask = mask_B1TT if cache is None else cache.mask(T, k_BKTH.shape[2], x_BTD.device)
        out = F.scaled_dot_product_attention(q_BNTH, k_BNTH, v_BNTH, attn_mask=mask, is_causal=mask is None)
        return self.o_proj(out.transpose(1, 2).reshape(B, T, -1))


class MLP(nn.Module):
    """The SwiGLU feed-forward (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        D, Fd = config.hidden_size, config.intermediate_size
        self.gate_proj = Linear(D, Fd)
        self.up_proj = Linear(D, Fd)
        self.down_proj = Linear(Fd, D)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Map [B, T, D] to [B, T, D]."""
        return self.down_proj(F.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))


class Block(nn.Module):
    """One pre-norm transformer block."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(
        self,
        x_BTD: Tensor,
        rope: tuple[Tensor, Tensor],
        cache: KVCache | None,
        layer: int,
        mask_B1TT: Tensor | None = None,
    ) -> Tensor:
        """Map [B, T, D] to [B, T, D]."""
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), rope, cache, layer, mask_B1TT)
        return x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))


class Trunk(nn.Module):
    """Embedding, blocks and final norm: what `model.` prefixes in a checkpoint."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Decoder(nn.Module):
    """A causal language model built from a TransformerConfig; parameters are uninitialised until loaded."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        if not config.tie_word_embeddings:
            self.lm_head = Linear(config.hidden_size, config.vocab_size)
        self._rope: tuple[Tensor, Tensor] | None = None

    @property
    def head_weight(self) -> Tensor:
        """The output matrix, [V, D]: the embedding itself when tied."""
        return self.model.embed_tokens.weight if self.config.tie_word_embeddings else self.lm_head.weight

    def hidden(
        self,
        ids_BT: Tensor,
        *,
        dtype: torch.dtype = torch.float32,
        cache: KVCache | None = None,
        observe: Observer | None = None,
        documents_BT: Tensor | None = None,
    ) -> Tensor:
        """Compute the final hidden states.

        Args:
            ids_BT: token ids, int64 [B, T].
            dtype: compute type; fp32 or bf16.
            cache: keys and values of earlier positions; extended in place.
            observe: called with ("embedding" | "block.N" | "final_norm", hidden [B, T, D]).
            documents_BT: the document of each token, [B, T]; attention then stays inside it. None for one document
                a row. Not with a cache, which holds one sequence.

        Returns:
            Hidden states after the final norm, [B, T, D] in `dtype`.

        Raises:
            SequenceTooLong: more positions than the model has.
        """
        seen = observe or _ignore
        start = 0 if cache is None else cache.length
        rope = self.rope_slice(start, start + ids_BT.shape[1], ids_BT.device, dtype)
        mask_B1TT = None if documents_BT is None else document_mask(documents_BT, dtype)
        x_BTD = self.model.embed_tokens(ids_BT).to(dtype)
        seen("embedding", x_BTD)
        for index, block in enumerate(self.model.layers):
            x_BTD = block(x_BTD, rope, cache, index, mask_B1TT)
            seen(f"block.{index}", x_BTD)
        x_BTD = self.model.norm(x_BTD)
        seen("final_norm", x_BTD)
        return x_BTD

    def forward(
        self, ids_BT: Tensor, *, dtype: torch.dtype = torch.float32, cache: KVCache | None = None
    ) -> Tensor:
        """Return next-token logits, [B, T, V] in `dtype`, for ids int64 [B, T]."""
        hidden = self.hidden(ids_BT, dtype=dtype, cache=cache)
        return F.linear(hidden, self.head_weight.to(dtype))

    def forget_rope(self) -> None:
        """Compute the rotary tables anew when they are needed next."""
        self._rope = None

    def rope_slice(
        self, start: int, stop: int, device: torch.device, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the positions from `start` to `stop`, each [T, H] in `dtype`.

        Raises:
            SequenceTooLong: more positions than the model has.
        """
        name, limit = self.config.sequence_limit
        if stop > limit:
            raise SequenceTooLong(length=stop, limit_name=name, limit=limit)
        if self._rope is None or self._rope[0].shape[0] < stop or self._rope[0].device != device:
            cos, sin = rope_tables(self.config, stop)
            self._rope = (cos.to(device), sin.to(device))
        cos, sin = self._rope
        return cos[start:stop].to(dtype), sin[start:stop].to(dtype)


def _ignore(name: str, hidden: Tensor) -> None:
    return None
