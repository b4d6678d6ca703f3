"""Small whole models of every family: a tokenizer trained on the probe, random weights, a reference of their own."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from apr.aprfile.metadata import ModelFacts, model_metadata
from apr.aprfile.writer import TensorSource, write_apr
from apr.arch.config import RopeScaling, TransformerConfig
from apr.arch.inventory import EMBEDDING, HEAD
from apr.arch.presets import PRESETS
from apr.data.encode import EncodeOptions, encode_corpus
from apr.model.initialise import random_decoder
from apr.stepzero.probe import probe_ids, probe_text
from apr.tokenizer.definition import TokenizerDefinition, make_definition
from apr.tokenizer.engine import TextTokenizer
from apr.workflows.importing import record_ourselves

VOCAB_SIZE = 320
_BASE = replace(
    PRESETS["tiny"],
    vocab_size=VOCAB_SIZE,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    tie_word_embeddings=True,
)
_LLAMA3 = RopeScaling(
    rope_type="llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=256,
)
SMALL_CONFIGS: dict[str, TransformerConfig] = {
    "llama-tied": _BASE,
    "llama-untied": replace(_BASE, tie_word_embeddings=False),
    "llama-linear-rope": replace(_BASE, rope_scaling=RopeScaling(rope_type="linear", factor=2.0)),
    "llama3-rope": replace(_BASE, rope_scaling=_LLAMA3, rope_theta=5e5),
    "multi-head": replace(_BASE, num_key_value_heads=4),
    "multi-query": replace(_BASE, num_key_value_heads=1),
    "wide-heads": replace(_BASE, head_dim=32),
    "sliding-window": replace(_BASE, sliding_window=256),
    "qwen2-tied": replace(_BASE, family="qwen2", attention_bias=True, rope_theta=1e6),
    "qwen2-untied": replace(
        _BASE, family="qwen2", attention_bias=True, rope_theta=1e6, tie_word_embeddings=False
    ),
}


def small_tokenizer() -> TokenizerDefinition:
    """A byte-level BPE of VOCAB_SIZE entries, trained on the probe's text; `<|endoftext|>` is id 0."""
    engine = tokenizers.Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    engine.train_from_iterator([probe_text()], trainer)
    return make_definition(engine.to_str(), bos_token_id=None, eos_token_id=0, source="a small tokenizer")


def write_small_model(path: Path, config: TransformerConfig, tokenizer: TokenizerDefinition) -> Path:
    """Write a whole `.apr` of random weights, with norms and biases that are not trivial, and a grade B reference."""
    rng = np.random.default_rng(0)
    weights = {
        name: value.detach().numpy().copy() for name, value in random_decoder(config, 0).named_parameters()
    }
    for value in weights.values():
        if value.ndim == 1:
            value += rng.normal(0, 0.1, value.shape).astype(np.float32)
    reference = record_ourselves(
        config, weights, probe_ids(TextTokenizer(tokenizer), config.sequence_limit[1])
    ).to_dict()
    facts = ModelFacts(
        config=config,
        tokenizer_json=tokenizer.json_text,
        tokenizer=tokenizer.to_dict(),
        reference=reference,
        producer={"name": "apr falsify", "version": "0"},
    )
    sources = [
        TensorSource(name=name, dtype="F32", shape=value.shape, produce=partial(weights.__getitem__, name))
        for name, value in weights.items()
    ]
    write_apr(path, model_metadata(facts), sources, {HEAD: EMBEDDING} if config.tie_word_embeddings else {})
    return path


def encode_texts(folder: Path, texts: list[str], tokenizer: TokenizerDefinition, **options: Any) -> Path:
    """Encode documents into a dataset, a quarter of them held out; returns its folder."""
    text = folder / "documents"
    text.mkdir(parents=True)
    for number, content in enumerate(texts):
        (text / f"{number:04d}.txt").write_text(content, encoding="utf-8")
    out = folder / "shards"
    encode_corpus(
        [text], TextTokenizer(tokenizer), out, options=EncodeOptions(**{"val_fraction": 0.25, **options})
    )
    return out
