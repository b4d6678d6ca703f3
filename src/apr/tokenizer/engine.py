"""The tokenizer engine: text to ids and back, by Hugging Face's `tokenizers`.

`Tokenizer` is the protocol; a faster engine stands behind it only under audit (`apr.tokenizer.audited`), with
this one as the judge. The wrapper adds what the engine leaves to luck: nothing is truncated or padded because a
tokenizer.json says so, no special tokens are put around a text, ids are those that the file declares, and bad
input is an error with an id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import tokenizers

from apr.tokenizer.alphabet import NOT_IN_UTF8, byte_symbols
from apr.tokenizer.definition import TokenizerDefinition
from apr.tokenizer.engine_record import EngineRecord
from apr.tokenizer.errors import (
    AddedTokenMoved,
    CannotEncode,
    SpecialTokenBad,
    TextNotUnicode,
    TokenIdUnknown,
    TokenizerNotLoadable,
)
from apr.tokenizer.restored import restored, steps
from apr.tokenizer.special import added_tokens, parse_document

_SOURCE = "the definition"
REFERENCE = "hf"  # the name of this engine among the others

Ids = Sequence[int] | np.ndarray  # of one text, [T]


class Tokenizer(Protocol):
    """What the rooms above need of a tokenizer."""

    @property
    def definition(self) -> TokenizerDefinition:
        """The tokenizer as a value."""

    @property
    def vocab_size(self) -> int:
        """Tokens, added ones included."""

    @property
    def max_id(self) -> int:
        """The largest id; an embedding needs at least one row more."""

    @property
    def unknown_id(self) -> int | None:
        """The id that stands for what the vocabulary cannot spell, or None."""

    @property
    def normalization(self) -> str:
        """What it does to text before it splits it, in a word; the definition's sha256 pins the rest."""

    @property
    def engine(self) -> EngineRecord:
        """What encodes."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text, with no token put around it."""

    def encode_batch(self, texts: Sequence[str]) -> Sequence[Ids]:
        """The ids of each text."""

    def decode(self, ids: Ids) -> str:
        """The text of ids, special tokens included."""

    def normalize(self, text: str) -> str:
        """What a round trip through ids must give back."""


class TextTokenizer:
    """The protocol over a `tokenizers.Tokenizer` loaded from a definition."""

    def __init__(self, definition: TokenizerDefinition) -> None:
        """Load the engine and check that it holds what the definition says.

        Args:
            definition: the tokenizer.

        Raises:
            TokenizerNotLoadable: its text is not a tokenizer.json, or not one that the engine takes.
            AddedTokenMoved: an added token loads under another id than declared.
            SpecialTokenBad: a special id is not in the vocabulary.
        """
        self.definition = definition
        document = parse_document(definition.json_text, _SOURCE)
        if document["model"].get("dropout"):
            reason = f"its merges are dropped at random (dropout {document['model']['dropout']})"
            raise TokenizerNotLoadable(source=_SOURCE, reason=reason)
        self._engine = _load_engine(definition.json_text)
        # Only the small parts are kept: a vocabulary as Python objects takes tens of megabytes.
        self.added_tokens = tuple(entry["content"] for entry in added_tokens(document, _SOURCE))
        self._steps = {key: document.get(key) for key in ("normalizer", "pre_tokenizer")}
        vocab: dict[str, int] = self._engine.get_vocab(with_added_tokens=True)
        if not vocab:
            raise TokenizerNotLoadable(source=_SOURCE, reason="its vocabulary is empty")
        _check_added(document, vocab)
        self.vocab_size = len(vocab)
        self.max_id = max(vocab.values())
        self._holes = frozenset(range(self.max_id + 1)).difference(vocab.values())
        self._check_special_ids()
        unknown = document["model"].get("unk_token")
        self.unknown_id: int | None = vocab.get(unknown) if isinstance(unknown, str) else None
        # Bytes that a UTF-8 text may hold and a byte-level vocabulary has no symbol for: the engine drops
        # them (SmolLM2 has eight such), so a text with them does not come back. Empty for other kinds.
        self.lost_bytes = _lost_bytes(document, vocab)
        normalizer = document.get("normalizer")
        self.normalization = "none" if normalizer is None else str(normalizer["type"])
        self.engine = EngineRecord(name=REFERENCE, version=tokenizers.__version__, audited_share=1.0)

    def encode(self, text: str) -> list[int]:
        """Encode a text; the literal text of an added token becomes that token.

        Returns:
            Its ids, with no token put around them.

        Raises:
            TextNotUnicode: the text holds lone surrogates.
            CannotEncode: the engine refuses it.
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode texts, in parallel where the engine may.

        Returns:
            The ids of each, in order.

        Raises:
            TextNotUnicode, CannotEncode: as for `encode`.
        """
        try:
            found = self._engine.encode_batch_fast(list(texts), add_special_tokens=False)
        except (
            Exception
        ) as error:  # the engine raises TypeError for surrogates and bare Exception for the rest
            require_unicode(texts)
            raise CannotEncode(reason=str(error)) from error
        return [encoding.ids for encoding in found]

    def decode(self, ids: Ids) -> str:
        """Decode ids, special tokens included; bytes that are not UTF-8 become U+FFFD.

        Raises:
            TokenIdUnknown: an id has no token (the engine would leave it out).
        """
        plain: list[int] = (
            ids.tolist() if isinstance(ids, np.ndarray) else [int(token_id) for token_id in ids]
        )
        if unknown := self._unknown(plain):
            raise TokenIdUnknown(token_id=unknown[0], max_id=self.max_id)
        return self._engine.decode(plain, skip_special_tokens=False)

    def normalize(self, text: str) -> str:
        """What `decode(encode(text))` must equal, for a text without added tokens and lost bytes.

        Raises:
            TextNotUnicode: the text holds lone surrogates.
        """
        require_unicode([text])
        normalizer = self._engine.normalizer
        return restored(self._steps, normalizer.normalize_str(text) if normalizer is not None else text)

    def _unknown(self, ids: Sequence[int]) -> list[int]:
        if ids and min(ids) >= 0 and max(ids) <= self.max_id and self._holes.isdisjoint(ids):
            return []
        return [token_id for token_id in ids if not 0 <= token_id <= self.max_id or token_id in self._holes]

    def _check_special_ids(self) -> None:
        for field in ("end_of_text_id", "bos_token_id", "eos_token_id"):
            value = getattr(self.definition, field)
            if value is not None and (not 0 <= value <= self.max_id or value in self._holes):
                raise SpecialTokenBad(
                    source=_SOURCE, field=field, value=str(value), limit="an id of the vocabulary"
                )


def _load_engine(json_text: str) -> tokenizers.Tokenizer:
    try:
        engine = tokenizers.Tokenizer.from_str(json_text)
    except Exception as error:  # the engine has no error class of its own
        raise TokenizerNotLoadable(source=_SOURCE, reason=str(error)) from error
    # A tokenizer.json may carry the settings of whoever saved it; data is neither cut nor padded.
    engine.no_truncation()
    engine.no_padding()
    return engine


def _check_added(document: Mapping[str, Any], vocab: Mapping[str, int]) -> None:
    for entry in added_tokens(document, _SOURCE):
        found = vocab.get(entry["content"])
        if found != entry["id"]:
            raise AddedTokenMoved(token=entry["content"], declared=entry["id"], found=str(found))


def _lost_bytes(document: Mapping[str, Any], vocab: Mapping[str, int]) -> tuple[int, ...]:
    if not any(step.get("type") == "ByteLevel" for step in steps(document.get("decoder"))):
        return ()
    symbols = enumerate(byte_symbols())
    return tuple(byte for byte, symbol in symbols if symbol not in vocab and byte not in NOT_IN_UTF8)


def require_unicode(texts: Sequence[str]) -> None:
    """Refuse texts that have no UTF-8 form.

    Raises:
        TextNotUnicode: one holds lone surrogates.
    """
    for index, text in enumerate(texts):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise TextNotUnicode(index=index, reason=error.reason) from error
