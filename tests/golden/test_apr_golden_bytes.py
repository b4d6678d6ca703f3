"""The bytes of a tiny file, once and for all: other programs and older files depend on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from apr.aprfile.metadata import ModelFacts, model_metadata, model_tensors, read_facts
from apr.aprfile.reader import open_apr
from apr.aprfile.writer import TensorSource, write_apr
from apr.arch.config import TransformerConfig
from apr.arch.inventory import EMBEDDING, HEAD, TensorSpec, inventory

GOLDEN = Path(__file__).with_name("tiny.apr")
CONFIG = TransformerConfig(
    family="qwen2",
    vocab_size=4,
    hidden_size=2,
    intermediate_size=3,
    num_hidden_layers=1,
    num_attention_heads=1,
    num_key_value_heads=1,
    head_dim=2,
    max_position_embeddings=8,
    rms_norm_eps=1e-6,
    rope_theta=1e6,
    rope_scaling=None,
    hidden_act="silu",
    attention_bias=True,
    tie_word_embeddings=True,
    sliding_window=None,
)
FACTS = ModelFacts(
    config=CONFIG,
    tokenizer_json='{"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]]}}',
    tokenizer={"eos_token_id": 2},
    sources=({"name": "model.safetensors", "sha256": "ab" * 32, "size": 1},),
    tie={"tied": True, "rule": "config.json"},
    producer={"name": "golden", "version": "1"},
)


def _values(spec: TensorSpec, position: int) -> np.ndarray:
    return (np.arange(spec.num_elements, dtype="<f4").reshape(spec.shape) - position) / 4


def _source(spec: TensorSpec, position: int) -> TensorSource:
    values = _values(spec, position)
    # One tensor of every plain type: weights in bfloat16, biases in half precision, norms in fp32.
    if spec.name.endswith(".bias"):
        return TensorSource(
            name=spec.name, dtype="F16", shape=spec.shape, produce=lambda: values.astype("<f2")
        )
    if len(spec.shape) == 1:
        return TensorSource(name=spec.name, dtype="F32", shape=spec.shape, produce=lambda: values)
    bits = (values.view("<u4") >> 16).astype("<u2")
    return TensorSource(name=spec.name, dtype="BF16", shape=spec.shape, produce=lambda: bits)


def write_golden(path: Path) -> None:
    sources = [_source(spec, position) for position, spec in enumerate(inventory(CONFIG))]
    write_apr(path, model_metadata(FACTS), sources, {HEAD: EMBEDDING})


def test_the_writer_still_writes_these_bytes(tmp_path: Path) -> None:
    write_golden(tmp_path / "tiny.apr")
    assert (tmp_path / "tiny.apr").read_bytes() == GOLDEN.read_bytes()


def test_the_reader_still_reads_them() -> None:
    with open_apr(GOLDEN) as file:
        assert read_facts(file) == FACTS
        assert set(model_tensors(file)) == {spec.name for spec in inventory(CONFIG)}
        for position, spec in enumerate(inventory(CONFIG)):
            assert np.array_equal(file.as_f32(spec.name), _values(spec, position))
