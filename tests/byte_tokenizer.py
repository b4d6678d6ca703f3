"""A tokenizer of bytes: its ids can be read without it."""

from __future__ import annotations

import json

from apr.tokenizer.definition import TokenizerDefinition
from apr.tokenizer.engine_record import EngineRecord

END_OF_TEXT = 256


class ByteTokenizer:
    """One id a byte; 256 ends a text."""

    unknown_id = None
    engine = EngineRecord(name="bytes", version="1", audited_share=1.0)

    def __init__(self, end_of_text_id=END_OF_TEXT, max_id=END_OF_TEXT, normalizer=None):
        self.definition = TokenizerDefinition(
            json_text=json.dumps({"normalizer": normalizer, "model": {}}),
            end_of_text_id=end_of_text_id,
            end_of_text_reason="test",
            bos_token_id=None,
            eos_token_id=None,
        )
        self.normalization = "none" if normalizer is None else normalizer["type"]
        self.max_id = max_id
        self.vocab_size = max_id + 1

    def encode(self, text):
        return list(text.encode())

    def encode_batch(self, texts):
        return [self.encode(text) for text in texts]

    def decode(self, ids):
        return bytes(ids).decode(errors="replace")

    def normalize(self, text):
        return text
