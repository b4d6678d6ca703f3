"""Compare an engine's ids with the reference's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from apr.tokenizer.engine import Ids, TextTokenizer
from apr.tokenizer.errors import EngineDiffers

_NEAR = 24  # characters of text shown on either side of a difference
_SHOWN_IDS = 4


class Engine(Protocol):
    """What encodes instead of the reference, once it has been compared."""

    @property
    def name(self) -> str:
        """As `--engine` has it."""

    @property
    def version(self) -> str:
        """Of the library."""

    def encode_batch(self, texts: Sequence[str]) -> Sequence[np.ndarray]:
        """The ids of each text, [T] u32."""


def require_equal(engine: Engine, reference: TextTokenizer, texts: Sequence[str], *, where: str) -> None:
    """Encode texts with both and compare.

    Args:
        engine: the one in question.
        reference: the one that is right.
        texts: any.
        where: what the texts are called in an error.

    Raises:
        EngineDiffers: the ids of a text differ.
        EngineRefuses: the engine raises.
    """
    judge(engine, reference, texts, engine.encode_batch(texts), where=where)


def judge(
    engine: Engine, reference: TextTokenizer, texts: Sequence[str], found: Sequence[Ids], *, where: str
) -> None:
    """Compare ids that an engine gave for texts.

    Raises:
        EngineDiffers: the ids of a text differ, or there are not as many as texts.
    """
    expected = reference.encode_batch(texts)
    if len(found) != len(texts):
        raise EngineDiffers(
            engine=engine.name,
            where=where,
            position=0,
            expected=f"{len(texts)} texts",
            found=f"{len(found)}",
            excerpt="the whole batch",
        )
    for text, right, ids in zip(texts, expected, found, strict=True):
        if not np.array_equal(np.asarray(right, dtype=np.int64), np.asarray(ids, dtype=np.int64)):
            raise _difference(engine.name, reference, text, right, [int(token_id) for token_id in ids], where)


def _difference(
    name: str, reference: TextTokenizer, text: str, right: Sequence[int], ids: Sequence[int], where: str
) -> EngineDiffers:
    pairs = enumerate(zip(right, ids, strict=False))
    position = next((index for index, (a, b) in pairs if a != b), min(len(right), len(ids)))
    # Normalisation and lost bytes may shift it a little; it is for a reader, not for a program.
    place = len(reference.decode(right[:position]))
    return EngineDiffers(
        engine=name,
        where=where,
        position=position,
        expected=str(list(right[position : position + _SHOWN_IDS])),
        found=str(list(ids[position : position + _SHOWN_IDS])),
        excerpt=ascii(text[max(0, place - _NEAR) : place + _NEAR]),
    )
