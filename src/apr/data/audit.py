"""What is checked while a corpus is encoded: the text survives, the ids exist, hardly any is unknown.

A tokenizer whose vocabulary and pre-tokenizer do not fit each other still gives ids, at full speed and in
plausible numbers; that the ids decode back to the text is what tells it from the right one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from apr.data.corpus import Document
from apr.data.errors import RoundTripBroken, TokenIdTooLarge, UnknownTokens
from apr.tokenizer.engine import Ids, Tokenizer

AUDIT_FIRST = 64  # every one of the first documents is decoded back
AUDIT_EVERY = 256  # and after them one in so many
MAX_UNKNOWN_FRACTION = 0.01
_EXCERPT_CHARACTERS = 16
_COUNTERS = ("num_documents", "num_round_trips", "num_tokens", "num_unknown")


class EncodingAudit:
    """Checks every document's ids, and decodes a fixed sample of documents back."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.num_documents = 0
        self.num_round_trips = 0
        self.num_tokens = 0
        self.num_unknown = 0

    @property
    def counters(self) -> dict[str, int]:
        """What was counted so far, for a journal."""
        return {name: getattr(self, name) for name in _COUNTERS}

    def take_up(self, counters: Mapping[str, int]) -> None:
        """Count on from what another audit of the same documents had counted."""
        for name in _COUNTERS:
            setattr(self, name, counters[name])

    def check(self, document: Document, ids: Ids) -> np.ndarray:
        """Check the ids of the next document.

        Returns:
            The ids, [T] u32.

        Raises:
            TokenIdTooLarge: an id is outside the vocabulary.
            RoundTripBroken: the document is in the sample, and its ids do not decode to its normalised text.
        """
        if self.num_documents < AUDIT_FIRST or self.num_documents % AUDIT_EVERY == 0:
            self._check_round_trip(document, ids)
        self.num_documents += 1
        checked = checked_ids(ids, id_bound(self._tokenizer), document.origin)
        self.num_tokens += len(checked)
        if self._tokenizer.unknown_id is not None:
            self.num_unknown += int(np.count_nonzero(checked == self._tokenizer.unknown_id))
        return checked

    def finish(self) -> None:
        """Judge the whole corpus.

        Raises:
            UnknownTokens: more than MAX_UNKNOWN_FRACTION of its tokens are the unknown token.
        """
        require_known(self.num_unknown, self.num_tokens)

    def _check_round_trip(self, document: Document, ids: Ids) -> None:
        expected, found = self._tokenizer.normalize(document.text), self._tokenizer.decode(ids)
        self.num_round_trips += 1
        if found != expected:
            position = _first_difference(expected, found)
            end = position + _EXCERPT_CHARACTERS
            raise RoundTripBroken(
                origin=document.origin,
                position=position,
                expected=repr(expected[position:end]),
                found=repr(found[position:end]),
            )


def require_known(num_unknown: int, num_tokens: int) -> None:
    """Refuse a corpus that the vocabulary does not spell.

    Raises:
        UnknownTokens: more than MAX_UNKNOWN_FRACTION of its tokens are the unknown token.
    """
    if num_unknown > MAX_UNKNOWN_FRACTION * num_tokens:
        limit = f"{MAX_UNKNOWN_FRACTION:.0%}"
        raise UnknownTokens(num_unknown=num_unknown, num_tokens=num_tokens, limit=limit)


def id_bound(tokenizer: Tokenizer) -> int:
    """The least vocabulary size that every id fits in: ids may have holes, so not the number of tokens."""
    return tokenizer.max_id + 1


def checked_ids(ids: Ids, vocab_size: int, origin: str) -> np.ndarray:
    """The ids as [T] u32; an array of that type is not copied.

    Raises:
        TokenIdTooLarge: an id is not from 0 to vocab_size - 1.
    """
    # As u32 a negative id would wrap around; where it is that already, nothing was negative.
    is_unsigned = isinstance(ids, np.ndarray) and ids.dtype == np.uint32
    wide: np.ndarray = np.asarray(ids, dtype=np.uint32 if is_unsigned else np.int64)
    if wide.size and (wide.max() >= vocab_size or (not is_unsigned and wide.min() < 0)):
        outside = (wide < 0) | (wide >= vocab_size)
        raise TokenIdTooLarge(origin=origin, token_id=int(wide[outside][0]), vocab_size=vocab_size)
    return wide.astype(np.uint32, copy=False)


def _first_difference(left: str, right: str) -> int:
    pairs = enumerate(zip(left, right, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(left), len(right)))
