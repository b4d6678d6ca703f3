"""Cross-entropy of the next token without ever holding all the logits.

With V = 151,936 the logits of 1,024 tokens take 620 MB in fp32, and their gradient as much again. Here the head is
applied to a chunk of tokens at a time, and the chunk's gradient is taken at once, so that memory is bounded
whatever the vocabulary. The softmax is in fp32 and the sum over tokens in fp64: an fp32 sum over a large vocabulary
has been seen to bias the loss.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORE = -100
CHUNK_LOGITS = 1 << 25  # logits at a time: 134 MB in fp32


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of -log p(target), times `scale`; hidden [n, D], weight [V, D] in one dtype, targets [n]."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, scale: float, wanted: bool
    ) -> Tensor:
        # A frozen head gets no gradient, and what is frozen up to the head passes none on.
        of_hidden, of_weight = (wanted and needed for needed in ctx.needs_input_grad[:2])
        grad_hidden = torch.empty_like(hidden) if of_hidden else None
        grad_weight = (
            torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if of_weight else None
        )
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        step = max(1, CHUNK_LOGITS // weight.shape[0])
        for start in range(0, hidden.shape[0], step):
            part = slice(start, start + step)
            log_p = torch.log_softmax(F.linear(hidden[part], weight).float(), dim=-1)
            targeted = targets[part] != IGNORE
            picked = log_p.gather(1, targets[part].clamp(min=0).unsqueeze(1))[:, 0]
            total -= picked[targeted].double().sum()
            if not (of_hidden or of_weight):
                continue
            delta = _softmax_gradient(log_p, targets[part], targeted).to(hidden.dtype)
            # The scale goes onto the narrow factor of each product: n x D values, not n x V.
            if grad_hidden is not None:
                grad_hidden[part] = (delta @ weight) * scale
            if grad_weight is not None:
                grad_weight += delta.t() @ (hidden[part] * scale)
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.weight_dtype = weight.dtype
        return (total * scale).float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        upstream = grads[0]
        by_hidden = None if grad_hidden is None else grad_hidden * upstream
        by_weight = None if grad_weight is None else (grad_weight * upstream).to(ctx.weight_dtype)
        return by_hidden, by_weight, None, None, None


def _softmax_gradient(log_p: Tensor, targets: Tensor, targeted: Tensor) -> Tensor:
    """The gradient of the loss sum by the logits, p - onehot(target); `log_p` is overwritten."""
    delta = log_p.exp_()
    rows = torch.arange(delta.shape[0], device=delta.device)
    delta[rows, targets.clamp(min=0)] -= 1.0
    if not bool(targeted.all()):
        delta[~targeted] = 0.0
    return delta


def next_token_loss(hidden_BTD: Tensor, head_VD: Tensor, targets_BT: Tensor, scale: float) -> Tensor:
    """Return the scaled sum of next-token losses in nats, an fp32 scalar that can be differentiated.

    Args:
        hidden_BTD: final hidden states in the compute dtype.
        head_VD: output matrix, fp32.
        targets_BT: the token that follows each position, int64; -100 where nothing is predicted.
        scale: usually one over the number of targets of the whole optimizer step, so that accumulated
            micro-batches of unequal length weigh every token alike.
    """
    hidden = hidden_BTD.reshape(-1, hidden_BTD.shape[-1])
    loss: Tensor = _ChunkedCrossEntropy.apply(
        hidden,
        head_VD.to(hidden.dtype),
        targets_BT.reshape(-1),
        scale,
        torch.is_grad_enabled(),  # asked here: inside, it is always off, and the inputs say that they want one
    )
    return loss
