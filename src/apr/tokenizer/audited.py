"""A tokenizer whose ids come from a fast engine and are compared with the reference's while they are made.

Of every batch a sample is encoded again by Hugging Face's library before the batch is handed out: the documents
whose hash says so, whatever batch they are in, and the one with the least hash, so that no batch goes unseen. A
difference is an error; what to do about the ids handed out before is for whoever holds them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from threading import Lock

import numpy as np

from apr.tokenizer.definition import TokenizerDefinition
from apr.tokenizer.differential import Engine, judge, require_equal
from apr.tokenizer.engine import Ids, TextTokenizer
from apr.tokenizer.engine_record import EngineRecord

AUDITED_SHARE = 0.01  # the reference takes some 20 times as long: a fifth of the engine's own time again
EXCERPT_CHARACTERS = 1 << 16  # of a longer document, so that one of a gigabyte costs no more than many
_MARKED_CHARACTERS = 4096
_SCALE = 1 << 64


class AuditedTokenizer:
    """The `Tokenizer` protocol over an engine and the reference that watches it.

    Args:
        reference: right by definition; decodes and normalises too.
        engine: compared already over `apr.tokenizer.hard_texts`.
    """

    def __init__(self, reference: TextTokenizer, engine: Engine) -> None:
        self._reference = reference
        self._fast = engine
        self.engine = EngineRecord(name=engine.name, version=engine.version, audited_share=AUDITED_SHARE)
        self._counting = Lock()
        self.num_documents = 0
        self.num_audited = 0

    @property
    def definition(self) -> TokenizerDefinition:
        """The tokenizer as a value."""
        return self._reference.definition

    @property
    def vocab_size(self) -> int:
        """Tokens, added ones included."""
        return self._reference.vocab_size

    @property
    def max_id(self) -> int:
        """The largest id."""
        return self._reference.max_id

    @property
    def unknown_id(self) -> int | None:
        """The id that stands for what the vocabulary cannot spell, or None."""
        return self._reference.unknown_id

    @property
    def normalization(self) -> str:
        """What it does to text before it splits it, in a word."""
        return self._reference.normalization

    def encode(self, text: str) -> list[int]:
        """Encode one text, by the reference."""
        return self._reference.encode(text)

    def encode_batch(self, texts: Sequence[str]) -> Sequence[np.ndarray]:
        """Encode texts by the engine, and a sample of them by both.

        Returns:
            The ids of each, [T] u32.

        Raises:
            EngineDiffers: a text of the sample has other ids.
            EngineRefuses: the engine raises.
            TextNotUnicode, CannotEncode: as for the reference.
        """
        found = self._fast.encode_batch(texts)
        chosen = audited(texts)
        short = [index for index in chosen if len(texts[index]) <= EXCERPT_CHARACTERS]
        batch = [texts[index] for index in short]
        where = "a document of the corpus"
        judge(self._fast, self._reference, batch, [found[index] for index in short], where=where)
        excerpts = [_excerpt(texts[index]) for index in chosen if index not in short]
        require_equal(self._fast, self._reference, excerpts, where=where)
        with self._counting:  # several batches may be encoded at once
            self.num_documents += len(texts)
            self.num_audited += len(chosen)
        return found

    def decode(self, ids: Ids) -> str:
        """Decode ids, by the reference."""
        return self._reference.decode(ids)

    def normalize(self, text: str) -> str:
        """What a round trip through ids must give back."""
        return self._reference.normalize(text)


def audited(texts: Sequence[str]) -> list[int]:
    """Choose the sample of a batch.

    A text's mark is a sha256 over its length and its first 4,096 characters, read as a fraction of one.

    Returns:
        The indices, in order: the texts whose mark is below AUDITED_SHARE, and the first with the least mark.
    """
    marks = [_mark(text) for text in texts]
    least = marks.index(min(marks)) if marks else 0
    bound = int(AUDITED_SHARE * _SCALE)
    return [index for index, mark in enumerate(marks) if mark < bound or index == least]


def _mark(text: str) -> int:
    # Without a seed, so that it has nothing to do with which side of the split the text is on; of the beginning,
    # because the encoder's own thread makes it.
    digest = hashlib.sha256(b"%d\0" % len(text))
    digest.update(text[:_MARKED_CHARACTERS].encode())
    return int.from_bytes(digest.digest()[:8], "big")


def _excerpt(text: str) -> str:
    start = _mark(text) % (len(text) - EXCERPT_CHARACTERS)
    return text[start : start + EXCERPT_CHARACTERS]
