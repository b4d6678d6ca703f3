"""Which keys a query may attend to, where that is more than causality: one value, made once for all layers.

It is what attention adds to its scores, in the compute type: a boolean mask is turned into one by every layer for
itself, and autograd keeps each. A kernel that needs no mask in memory (torch's flex attention on a GPU) would take its
own kind of value from here, and nothing but `Attention` would notice.
"""

from __future__ import annotations

import torch
from torch import Tensor


def document_mask(documents_BT: Tensor, dtype: torch.dtype) -> Tensor:
    """Let a token attend to itself and to what stands before it in its own document.

    Positions are not counted anew: rotary embeddings turn queries and keys by their difference only, and that is the
    same inside a document wherever it stands.

    Args:
        documents_BT: the document of each token, integers [B, T].
        dtype: of the attention scores.

    Returns:
        What is added to the scores: 0 or minus infinity, [B, 1, T, T] in `dtype`.
    """
    same_B1TT = documents_BT[:, None, :, None] == documents_BT[:, None, None, :]
    hidden_B1TT = same_B1TT.tril_().logical_not_()
    return torch.zeros(hidden_B1TT.shape, dtype=dtype, device=documents_BT.device).masked_fill_(
        hidden_B1TT, -torch.inf
    )
