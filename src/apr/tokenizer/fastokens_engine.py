"""The engine `fastokens`: the same BPE as Hugging Face's, with scanners for known patterns and a cache of pieces.

It encodes a batch in native threads, without Python's lock and without a Python object per id. Left to itself it
differs in two things that are known, and texts with either are left to the reference: a byte for which the
vocabulary has no symbol is an error there, where the reference drops it; and its tables class fourteen characters
otherwise (`apr.tokenizer.respelled`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Sequence
from importlib import metadata
from typing import Any

import numpy as np

from apr.tokenizer.engine import TextTokenizer, require_unicode
from apr.tokenizer.errors import EngineMissing, EngineRefuses
from apr.tokenizer.respelled import DISPUTED, respelled

NAME = "fastokens"


class FastokensEngine:
    """Ids by fastokens.

    Args:
        reference: the tokenizer whose ids are wanted; it encodes what fastokens cannot.

    Raises:
        EngineMissing: the library is not installed.
        EngineRefuses: it does not take this tokenizer.
    """

    name = NAME

    def __init__(self, reference: TextTokenizer) -> None:
        try:
            library = importlib.import_module(NAME)
            self.version = metadata.version(NAME)
        except ImportError as error:
            raise EngineMissing(engine=NAME) from error
        self._reference = reference
        text = respelled(reference.definition.json_text)
        self._engine = _guarded("the tokenizer", lambda: library.Tokenizer.from_json_str(text))
        # A tokenizer.json may carry the settings of whoever saved it; data is neither cut nor padded.
        self._engine.no_truncation()
        self._engine.no_padding()
        self._lost = bytes(reference.lost_bytes)

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Encode texts.

        Returns:
            The ids of each, [T] u32.

        Raises:
            TextNotUnicode: a text holds lone surrogates.
            EngineRefuses: the library raises.
        """
        require_unicode(texts)
        disputed = {index for index, text in enumerate(texts) if _is_disputed(text)}
        try:
            return self._encode_around(texts, disputed)
        except EngineRefuses:
            spoilt = {index for index, text in enumerate(texts) if self._holds_lost_bytes(text)}
            if not spoilt:
                raise
            return self._encode_around(texts, disputed | spoilt)

    def _encode_around(self, texts: Sequence[str], spoilt: Collection[int]) -> list[np.ndarray]:
        if not spoilt:
            return self._encode(texts)
        sound = sorted(set(range(len(texts))).difference(spoilt))
        parts = (
            (sound, self._encode([texts[index] for index in sound])),
            (spoilt, self._reference.encode_batch([texts[index] for index in spoilt])),
        )
        found = {i: np.asarray(ids, dtype=np.uint32) for part in parts for i, ids in zip(*part, strict=True)}
        return [found[index] for index in range(len(texts))]

    def _holds_lost_bytes(self, text: str) -> bool:
        content = text.encode()
        return len(content.translate(None, self._lost)) < len(content)

    def _encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        if not texts:
            return []
        ids, ends = _guarded("a text", lambda: self._engine.encode_batch_flat(list(texts)))
        bounds = np.frombuffer(ends, dtype="<u8").astype(np.int64)
        return np.split(np.frombuffer(ids, dtype="<u4"), bounds[1:-1])


def _is_disputed(text: str) -> bool:
    return not text.isascii() and any(character in text for character in DISPUTED)


def _guarded(what: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the native code is no Exception
        raise EngineRefuses(engine=NAME, what=what, reason=str(error)) from error
