"""Generation, for any module that scores the next token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# Takes new ids, int64 [1, T], after those of earlier calls; returns logits of the last position, [V].
NextLogits = Callable[[Tensor], Tensor]


@torch.no_grad()
def generate(
    next_logits: NextLogits,
    prompt_ids: Sequence[int],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    stop_ids: frozenset[int] = frozenset(),
    on_token: Callable[[int], None] | None = None,
) -> list[int]:
    """Continue a prompt.

    Args:
        next_logits: the model, keeping its own cache between calls.
        prompt_ids: ids of the prompt, at least one.
        max_new_tokens: how many to make at most.
        temperature: 0 takes the likeliest token; otherwise logits are divided by it and sampled.
        seed: of the sampling.
        stop_ids: ids that end the continuation; the id itself is not returned.
        on_token: called with every new id.

    Returns:
        The new ids.
    """
    generator = torch.Generator().manual_seed(seed)
    new_ids: list[int] = []
    ids = torch.tensor([list(prompt_ids)], dtype=torch.int64)
    for _ in range(max_new_tokens):
        token = _choose(next_logits(ids).float().cpu(), temperature, generator)
        if token in stop_ids:
            break
        new_ids.append(token)
        if on_token:
            on_token(token)
        ids = torch.tensor([[token]], dtype=torch.int64)
    return new_ids


def _choose(logits_V: Tensor, temperature: float, generator: torch.Generator) -> int:
    if temperature == 0.0:
        return int(logits_V.argmax())
    chances = torch.softmax(logits_V / temperature, dim=-1)
    return int(torch.multinomial(chances, 1, generator=generator))
