"""Defects of architecture and vocabulary that take more than a value: each gets the original and returns another.

`pv` plants them while the program is imported, so that the program is imported here only when they act.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor


def more_positions(published: Any) -> Any:
    """What was published is another number of positions."""
    return {**published, "max_position_embeddings": 131072}


def _with_default(original: Any, **defaults: Any) -> Any:
    def read(file: Any) -> Any:
        facts = original(file)
        return replace(facts, config=replace(facts.config, **defaults))

    return read


def heads_by_default(original: Any) -> Any:
    """There are as many key-value heads as heads, whatever the file says."""
    return _with_default(original, num_key_value_heads=4)


def base_by_default(original: Any) -> Any:
    """The rotary base is 10,000, whatever the file says."""
    return _with_default(original, rope_theta=10000.0)


def neighbours(x_BNTH: Tensor, cos_TH: Tensor, sin_TH: Tensor) -> Tensor:
    """Rotation of pairs (2i, 2i + 1) where (i, i + H/2) is meant."""
    half = cos_TH.shape[-1] // 2
    cos, sin = (table[:, :half].repeat_interleave(2, dim=-1) for table in (cos_TH, sin_TH))
    turned = torch.stack((-x_BNTH[..., 1::2], x_BNTH[..., 0::2]), dim=-1).flatten(-2)
    return x_BNTH * cos + turned * sin


def no_rotation(x_BNTH: Tensor, cos_TH: Tensor, sin_TH: Tensor) -> Tensor:
    """None at all."""
    return x_BNTH


def without_bias(self: Any, x: Tensor) -> Tensor:
    """A linear map whose bias is left out."""
    return torch.nn.functional.linear(x, self.weight.to(x.dtype))


def rotating_neighbours(original: Any) -> Any:
    """Rope turns neighbours."""
    return neighbours


def not_rotating(original: Any) -> Any:
    """Rope is left out."""
    return no_rotation


def leaving_out_biases(original: Any) -> Any:
    """Biases are left out."""
    return without_bias


def base_only(original: Any) -> Any:
    """The vocabulary is counted without the added tokens above it."""

    class BaseOnly(original):  # type: ignore[misc]
        def __init__(self, definition: Any) -> None:
            super().__init__(definition)
            self.vocab_size, self.max_id = 300, 299

    return BaseOnly


def counts_only(original: Any) -> Any:
    """The number of entries is taken for the bound of the ids."""

    class CountsOnly(original):  # type: ignore[misc]
        def __init__(self, definition: Any) -> None:
            super().__init__(definition)
            self.max_id = self.vocab_size - 1

    return CountsOnly


def equal_demanded(original: Any) -> Any:
    """With a checkpoint too, the tokenizer must have as many entries as the model has rows."""

    def strict(self: Any, spec: Any) -> Any:
        from apr.train.errors import VocabularyMismatch

        size = original(self, spec)
        if size is not None and size != self.config.vocab_size:
            raise VocabularyMismatch(tokenizer="", tokenizer_size=size, limit="exactly")
        return size

    return strict


def smaller_taken(original: Any) -> Any:
    """From scratch too, a smaller tokenizer is taken."""

    def relaxed(self: Any, spec: Any) -> Any:
        from apr.train.errors import VocabularyMismatch

        try:
            return original(self, spec)
        except VocabularyMismatch as error:
            if error.tokenizer_size > self.config.vocab_size:
                raise
            return error.tokenizer_size

    return relaxed


def ignored_on_cuda(original: Any) -> Any:
    """The builder of one device has no place for a checkpoint."""

    def build(self: Any) -> Any:
        from apr.model.initialise import random_decoder
        from tiny import CONFIG

        return random_decoder(CONFIG, 0) if self.compute.device.type == "cuda" else original(self)

    return build


def rounded_on_cuda(original: Any) -> Any:
    """The copy on one device was rounded on the way."""

    def lossy(file: Any, device: Any) -> Any:
        loaded = original(file, device)
        if device.type == "cuda":
            loaded.decoder.bfloat16().float()
        return loaded

    return lossy
