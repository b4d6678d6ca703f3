"""The fixed probe: the text whose loss a checkpoint is known by."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Protocol

PROBE_TOKENS = 384
_PARTS = ("prose.txt", "code.txt", "data.txt", "scripts.txt")


class Encoder(Protocol):
    """What the probe needs of a tokenizer."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        ...


def probe_text() -> str:
    """Prose, code, JSON and non-Latin text, a kilobyte or so each, in that order."""
    folder = resources.files("apr.stepzero") / "probe_text"
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in _PARTS)


def probe_ids(tokenizer: Encoder, max_tokens: int = PROBE_TOKENS) -> list[int]:
    """Encode the probe and take an equal share of each part, `max_tokens` at most: what the model attends over."""
    folder = resources.files("apr.stepzero") / "probe_text"
    share = max(1, min(PROBE_TOKENS, max_tokens) // len(_PARTS))
    ids: list[int] = []
    for name in _PARTS:
        ids.extend(tokenizer.encode((folder / name).read_text(encoding="utf-8"))[:share])
    return ids[:max_tokens]


def plain_probe_ids(vocab_size: int, max_tokens: int = PROBE_TOKENS) -> list[int]:
    """Ids for a checkpoint without a tokenizer: fixed pseudo-random ones below `vocab_size`."""
    count = min(PROBE_TOKENS, max_tokens)
    stream = hashlib.shake_256(b"apr-probe").digest(count * 8)
    return [int.from_bytes(stream[8 * i : 8 * i + 8], "little") % vocab_size for i in range(count)]
