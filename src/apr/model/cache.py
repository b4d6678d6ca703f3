"""The key-value cache of generation."""

from __future__ import annotations

import torch
from torch import Tensor

from apr.arch.config import TransformerConfig


class KVCache:
    """Keys and values of the positions seen so far, for every layer, in buffers of fixed capacity."""

    def __init__(
        self, config: TransformerConfig, *, batch_size: int, capacity: int, dtype: torch.dtype
    ) -> None:
        """Allocate two buffers [L, B, K, capacity, H] of `dtype`."""
        shape = (config.num_hidden_layers, batch_size, config.num_key_value_heads, capacity, config.head_dim)
        self._keys = torch.zeros(shape, dtype=dtype)
        self._values = torch.zeros(shape, dtype=dtype)
        self._last_layer = config.num_hidden_layers - 1
        self.length = 0

    def append(self, layer: int, k_BKTH: Tensor, v_BKTH: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values of a layer; return all of them, [B, K, length + T, H]."""
        start, stop = self.length, self.length + k_BKTH.shape[2]
        self._keys[layer, :, :, start:stop] = k_BKTH
        self._values[layer, :, :, start:stop] = v_BKTH
        if layer == self._last_layer:
            self.length = stop
        return self._keys[layer, :, :, :stop], self._values[layer, :, :, :stop]

    @staticmethod
    def mask(num_queries: int, num_keys: int, device: torch.device) -> Tensor | None:
        """Which keys each query may see, bool [T, S]; None when plain causal masking is the same."""
        if num_queries == num_keys:
            return None
        return torch.ones(num_queries, num_keys, dtype=torch.bool, device=device).tril(num_keys - num_queries)
