"""Forward passes over the probe: ours in every arrangement, and the reference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from apr.model.cache import KVCache
from apr.model.decoder import Decoder
from apr.stepzero.oracle import trace_transformers
from bench.tolerance.measured import Measured, block_state, token_losses


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """How the probe is put before the model; every one must give the same figures but for rounding."""

    dtype: torch.dtype = torch.float32
    num_others: int = 0  # rows of other text in the batch
    row: int = 0  # which row the probe is
    pad: int = 0  # tokens after the probe
    pieces: int = 1  # above 1: through the key-value cache
    head_rows: int = 64  # positions whose logits are one product
    autocast: bool = False  # fp32 residual stream, torch's autocast for the products

    def batch(self, ids: Sequence[int], vocab_size: int) -> Tensor:
        """The probe [B, T + pad] among rows of other ids, which are drawn and the same every time."""
        draw = torch.Generator().manual_seed(7)
        shape = (self.num_others + 1, len(ids) + self.pad)
        batch = torch.randint(0, vocab_size, shape, generator=draw)
        batch[self.row, : len(ids)] = torch.tensor(list(ids))
        return batch


PLAIN = Arrangement()


@torch.no_grad()
def run_ours(
    decoder: Decoder, ids: Sequence[int], how: Arrangement = PLAIN, head: Tensor | None = None
) -> Measured:
    """Run our decoder; `head` takes the place of its output matrix."""
    seen: dict[str, list[Tensor]] = defaultdict(list)
    batch = how.batch(ids, decoder.config.vocab_size)
    cast = torch.autocast("cpu", dtype=torch.bfloat16) if how.autocast else nullcontext()
    with cast:
        hidden = _hidden(decoder, batch, how, lambda name, state: seen[name].append(state[how.row].float()))
        hidden = hidden[how.row, : len(ids)]
        matrix = (decoder.head_weight if head is None else head).to(hidden.dtype)
        step = how.head_rows
        logits = [
            torch.nn.functional.linear(hidden[i : i + step], matrix).float() for i in range(0, len(ids), step)
        ]
    whole = torch.cat(logits)
    blocks = [block_state(name, torch.cat(parts)[: len(ids)], keep=True) for name, parts in seen.items()]
    return Measured(token_losses=token_losses(lambda part: whole[part], ids), blocks=tuple(blocks))


def _hidden(decoder: Decoder, batch: Tensor, how: Arrangement, observe: Callable[..., None]) -> Tensor:
    if how.pieces == 1:
        return decoder.hidden(batch, dtype=how.dtype, observe=observe)
    B, T = batch.shape
    cache = KVCache(decoder.config, batch_size=B, capacity=T, dtype=how.dtype)
    pieces = batch.chunk(how.pieces, dim=1)
    return torch.cat(
        [decoder.hidden(piece, dtype=how.dtype, cache=cache, observe=observe) for piece in pieces], dim=1
    )


def run_reference(model: Any, ids: Sequence[int]) -> Measured:
    """Run a transformers model exactly as `apr import` does."""
    blocks = []
    logits = trace_transformers(model)(
        torch.tensor([list(ids)]),
        lambda name, hidden: blocks.append(block_state(name, hidden[0], keep=True)),
    )
    return Measured(token_losses=token_losses(lambda part: logits[0, part], ids), blocks=tuple(blocks))
