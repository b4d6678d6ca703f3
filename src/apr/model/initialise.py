"""Random initialisation, for runs from scratch and for the control that a checkpoint is compared with."""

from __future__ import annotations

import hashlib
import math

import torch

from apr.arch.config import TransformerConfig
from apr.model.decoder import Decoder

_STD = 0.02  # GPT-2's, kept by the llama family


@torch.no_grad()
def initialise(decoder: Decoder, seed: int) -> None:
    """Fill every parameter: normal(0, 0.02), residual outputs scaled by 1/sqrt(2 L), norms 1, biases 0.

    Each tensor has a generator of its own, seeded by the run's seed and the tensor's name, so that a value does
    not depend on which other tensors exist or on their order.
    """
    residual = _STD / math.sqrt(2 * decoder.config.num_hidden_layers)
    for name, parameter in decoder.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        elif parameter.dim() == 1:
            parameter.fill_(1.0)
        else:
            digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
            generator = torch.Generator(parameter.device).manual_seed(int.from_bytes(digest[:7], "little"))
            is_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
            parameter.normal_(0.0, residual if is_residual else _STD, generator=generator)


def random_decoder(config: TransformerConfig, seed: int, device: torch.device | str = "cpu") -> Decoder:
    """Build a decoder with random weights, fp32 on `device`."""
    with torch.device("meta"):
        decoder = Decoder(config)
    decoder = decoder.to_empty(device=device)
    initialise(decoder, seed)
    return decoder
