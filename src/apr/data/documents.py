"""Which document each token of a window belongs to, told from the end-of-text separators between them.

A separator is the last token of the document that it ends, so what follows it belongs to the next one. Nothing but the
tokens is needed, and a window that begins in the middle of a document needs no look at what stood before it.
"""

from __future__ import annotations

import numpy as np

from apr.data.errors import NoSeparators
from apr.data.shards import TokenDataset


def separator_of(dataset: TokenDataset) -> int:
    """The id that ends a document.

    Raises:
        NoSeparators: the dataset was made without.
    """
    manifest = dataset.manifest
    if manifest.eos_policy == "none" or manifest.eos_token_id is None:
        raise NoSeparators(folder=str(dataset.folder))
    return manifest.eos_token_id


def document_numbers(tokens: np.ndarray, separator_id: int) -> np.ndarray:
    """Number the documents of windows, 0 for the one that a window begins in.

    Args:
        tokens: ids [.., T].
        separator_id: ends a document.

    Returns:
        [.., T] i32: separators before each token, its own place left out.
    """
    ended = np.cumsum(tokens[..., :-1] == separator_id, axis=-1, dtype=np.int32)
    first = np.zeros((*tokens.shape[:-1], min(1, tokens.shape[-1])), dtype=np.int32)
    return np.concatenate([first, ended], axis=-1)
