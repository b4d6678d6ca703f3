"""A second writer of the container, made from its description alone, that can be told to lie."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apr.aprfile.metadata import ModelFacts, model_metadata
from apr.aprfile.writer import TensorSource, WrittenApr, write_apr
from apr.arch.config import TransformerConfig
from apr.arch.inventory import EMBEDDING, HEAD, inventory


@dataclass(frozen=True)
class Stored:
    """A tensor of a crafted file: fp32 `values`, or the bytes of `data`; `offset` and `size` may lie."""

    name: str | bytes
    values: tuple[float, ...] = (1.0,)
    data: bytes | None = None
    shape: tuple[int, ...] | None = None
    code: int = 0
    offset: int | None = None
    size: int | None = None

    @property
    def content(self) -> bytes:
        return np.array(self.values, dtype="<f4").tobytes() if self.data is None else self.data

    @property
    def dims(self) -> tuple[int, ...]:
        return (len(self.values),) if self.shape is None else self.shape


def _padded(raw: bytes) -> bytes:
    return raw + bytes(-len(raw) % 64)


def _index(tensors: Iterable[Stored]) -> tuple[bytes, bytes]:
    index, data = b"", b""
    for tensor in tensors:
        name = tensor.name.encode() if isinstance(tensor.name, str) else tensor.name
        index += struct.pack("<H", len(name)) + name + bytes([tensor.code, len(tensor.dims)])
        index += struct.pack(f"<{len(tensor.dims)}Q", *tensor.dims)
        offset = len(data) if tensor.offset is None else tensor.offset
        size = len(tensor.content) if tensor.size is None else tensor.size
        index += struct.pack("<QQ", offset, size)
        data += _padded(tensor.content)
    return index, data


def craft_bytes(
    tensors: Iterable[dict[str, Any]] = (),
    metadata: Any = None,
    *,
    magic: bytes = b"APR\0",
    version: bytes = b"\2\0",
    flags: int = 0x0400,
    footer: bool = True,
    **lies: int,
) -> bytes:
    """Bytes of a container; `lies` replace header fields before the checksum is made."""
    raw = metadata if isinstance(metadata, bytes) else json.dumps(metadata or {}).encode()
    stored = [Stored(**tensor) for tensor in tensors]
    index, data = _index(stored)
    index_at = 64 + len(_padded(raw))
    fields = {
        "tensor_count": len(stored),
        "metadata_offset": 64,
        "metadata_size": len(raw),
        "tensor_index_offset": index_at,
        "data_offset": index_at + len(_padded(index)),
    }
    fields.update(lies)
    head = magic + version + struct.pack("<HIQIQQ", flags, *fields.values())
    header = head + struct.pack("<I", zlib.crc32(head + bytes(20))) + bytes(20)
    body = header + _padded(raw) + _padded(index) + data
    return body + (struct.pack("<I", zlib.crc32(body)) if footer else b"")


@pytest.fixture
def craft(tmp_path: Path) -> Callable[..., Path]:
    """A factory of crafted files: tensors as dictionaries of `Stored`, metadata, and what to lie about."""

    def make(*args: Any, **kwargs: Any) -> Path:
        path = tmp_path / "crafted.apr"
        path.write_bytes(craft_bytes(*args, **kwargs))
        return path

    return make


TINY = TransformerConfig(
    family="llama",
    vocab_size=6,
    hidden_size=4,
    intermediate_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=2,
    max_position_embeddings=16,
    rms_norm_eps=1e-6,
    rope_theta=1e4,
    rope_scaling=None,
    hidden_act="silu",
    attention_bias=False,
    tie_word_embeddings=True,
    sliding_window=None,
)
TOKENIZER = {
    "added_tokens": [{"id": 4, "content": "<|endoftext|>", "special": True}],
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "c": 3}, "merges": [["a", "b"]]},
}


def facts_for(config: TransformerConfig, **changes: Any) -> ModelFacts:
    facts = ModelFacts(
        config=config,
        tokenizer_json=json.dumps(TOKENIZER, indent=1),
        tokenizer={"bos_token_id": None, "eos_token_id": 4},
        sources=({"name": "model.safetensors", "sha256": "0" * 64, "size": 12},),
        tie={"tied": config.tie_word_embeddings, "rule": "config.json"},
        producer={"name": "apr import", "version": "0"},
    )
    return replace(facts, **changes)


def sources_for(config: TransformerConfig, dtype: str = "F32") -> list[TensorSource]:
    """Tensors of a config whose values follow from their place in the inventory."""

    def source(position: int, name: str, shape: tuple[int, ...]) -> TensorSource:
        def produce() -> np.ndarray:
            size = int(np.prod(shape))
            values = (np.arange(size, dtype="<f4").reshape(shape) + position) / 8
            return (values.view("<u4") >> 16).astype("<u2") if dtype == "BF16" else values

        return TensorSource(name=name, dtype=dtype, shape=shape, produce=produce)

    return [source(at, spec.name, spec.shape) for at, spec in enumerate(inventory(config))]


def write_model(path: Path, config: TransformerConfig = TINY, **changes: Any) -> WrittenApr:
    aliases = {HEAD: EMBEDDING} if config.tie_word_embeddings else {}
    return write_apr(path, model_metadata(facts_for(config, **changes)), sources_for(config), aliases)


@pytest.fixture(scope="session")
def tiny_config() -> TransformerConfig:
    return TINY


@pytest.fixture(scope="session")
def make_facts() -> Callable[..., ModelFacts]:
    return facts_for


@pytest.fixture(scope="session")
def make_sources() -> Callable[..., list[TensorSource]]:
    return sources_for


@pytest.fixture(scope="session")
def write_tiny() -> Callable[..., WrittenApr]:
    return write_model


@pytest.fixture
def tiny_apr(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.apr"
    write_model(path)
    return path
