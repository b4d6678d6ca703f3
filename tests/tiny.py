"""A tiny model, its tokenizer and its corpus: small enough to make anew in any test, whole enough to train."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from safetensors.numpy import save_file
from tokenizers import decoders, models, pre_tokenizers, trainers

from apr.aprfile.metadata import ModelFacts, model_metadata
from apr.aprfile.writer import TensorSource, write_apr
from apr.arch.config import TransformerConfig
from apr.arch.inventory import EMBEDDING, HEAD
from apr.arch.presets import PRESETS
from apr.data.encode import EncodeOptions, encode_corpus
from apr.model.initialise import random_decoder
from apr.stepzero.oracle import record_with_transformers
from apr.stepzero.probe import probe_ids
from apr.tokenizer.definition import TokenizerDefinition, make_definition, save_definition
from apr.tokenizer.engine import TextTokenizer
from apr.workflows.importing import record_ourselves

VOCAB_SIZE = 320
CONFIG = replace(
    PRESETS["tiny"],
    vocab_size=VOCAB_SIZE,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    tie_word_embeddings=True,
)
QWEN_LIKE = replace(CONFIG, family="qwen2", attention_bias=True, rope_theta=1e6)


def words(number: int) -> str:
    """A document of plausible text, another for every number."""
    nouns = ("river", "stone", "garden", "letter", "engine", "window", "winter", "market")
    verbs = ("holds", "turns", "finds", "opens", "leaves", "keeps", "names", "draws")
    lines = []
    for i in range(12):
        a, b, c = (number * 7 + i) % 8, (number * 3 + 5 * i) % 8, (number + i * i) % 8
        lines.append(f"the {nouns[a]} {verbs[b]} {number * 31 + i} of the {nouns[c]}\n")
    return "".join(lines)


def make_tokenizer(vocab_size: int = VOCAB_SIZE) -> TokenizerDefinition:
    """A byte-level BPE of exactly `vocab_size` entries; `<|endoftext|>` is id 0."""
    engine = tokenizers.Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    engine.train_from_iterator((words(i) for i in range(40)), trainer)
    assert engine.get_vocab_size() == vocab_size
    return make_definition(engine.to_str(), bos_token_id=None, eos_token_id=0, source="the tiny tokenizer")


def make_weights(config: TransformerConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Random fp32 tensors of a config, with biases and norms that are not trivial, by name."""
    rng = np.random.default_rng(seed)
    decoder = random_decoder(config, seed)
    weights = {name: value.detach().numpy().copy() for name, value in decoder.named_parameters()}
    for value in weights.values():
        if value.ndim == 1:
            value += rng.normal(0, 0.1, value.shape).astype(np.float32)
        else:
            value *= 3  # well away from uniform output, so that a wrong forward pass shows
    return weights


def make_model(
    path: Path,
    config: TransformerConfig = CONFIG,
    *,
    oracle: str = "self",
    seed: int = 0,
    tokenizer: TokenizerDefinition | None = None,
    weights: Mapping[str, np.ndarray] | None = None,
    edit_metadata: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Write a whole, valid .apr model. `edit_metadata` may spoil what is said; checksums are then of the spoilt."""
    tokenizer = tokenizer or make_tokenizer()
    weights = weights if weights is not None else make_weights(config, seed)
    reference = None
    if oracle != "none":
        measure = record_with_transformers if oracle == "transformers" else record_ourselves
        reference = measure(config, weights, probe_ids(TextTokenizer(tokenizer))).to_dict()
    facts = ModelFacts(
        config=config,
        tokenizer_json=tokenizer.json_text,
        tokenizer=tokenizer.to_dict(),
        reference=reference,
        producer={"name": "tests", "version": "0"},
    )
    metadata = model_metadata(facts)
    if edit_metadata:
        edit_metadata(metadata)
    sources = [
        TensorSource(name=name, dtype="F32", shape=value.shape, produce=lambda value=value: value)
        for name, value in weights.items()
    ]
    write_apr(path, metadata, sources, {HEAD: EMBEDDING} if config.tie_word_embeddings else {})
    return path


def make_hf_folder(folder: Path, config: TransformerConfig = CONFIG, seed: int = 0) -> Path:
    """A checkpoint folder as Hugging Face has it, with the tiny tokenizer."""
    folder.mkdir(parents=True)
    names = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}
    values = {name: value for name, value in config.to_dict().items() if name != "family"}
    values |= {"architectures": [names[config.family]], "model_type": config.family}
    if config.family == "qwen2":
        del values["attention_bias"]  # the class implies it
    (folder / "config.json").write_text(json.dumps(values))
    save_file(make_weights(config, seed), folder / "model.safetensors")
    save_definition(make_tokenizer(), folder)
    return folder


def make_corpus(folder: Path, documents: int = 60) -> Path:
    """A folder of text files."""
    folder.mkdir(parents=True)
    for number in range(documents):
        (folder / f"doc-{number:03d}.txt").write_text(words(number), encoding="utf-8")
    return folder


def make_shards(folder: Path, tokenizer: TokenizerDefinition | None = None, documents: int = 60) -> Path:
    """An encoded dataset with its validation split."""
    corpus = make_corpus(folder.parent / f"{folder.name}-text", documents)
    options = EncodeOptions(val_fraction=0.2)
    encode_corpus([corpus], TextTokenizer(tokenizer or make_tokenizer()), folder, options=options)
    return folder


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_bytes())


# A run of the tiny model that takes a second: add --init, --dataset, --run-dir.
QUICK = (
    *("--num-steps", "4", "--batch-size", "2", "--seq-length", "32", "--steps-per-epoch", "2"),
    *("--val-tokens", "256", "--device", "cpu", "--dtype", "fp32"),
)
