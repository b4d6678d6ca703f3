"""Engines with a defect each, as they have been met."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from apr.tokenizer.engine import TextTokenizer


class Defective:
    """The reference's ids, changed where a text fulfils a condition."""

    name = "defective"
    version = "9"

    def __init__(self, reference: TextTokenizer, is_wrong: Callable[[str], bool]) -> None:
        self._reference = reference
        self._is_wrong = is_wrong

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        found = []
        for text, ids in zip(texts, self._reference.encode_batch(texts), strict=True):
            wrong = ids[:-1] if ids else [0]
            found.append(np.array(wrong if self._is_wrong(text) else ids, dtype=np.uint32))
        return found
