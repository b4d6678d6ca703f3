"""A tokenizer of bytes, and datasets made by hand, so that these tests need no encoder to test a reader."""

import json
import struct
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from apr.data.manifest import Manifest, ShardRecord, SourceRecord, SplitRecord, shard_name
from apr.data.shards import TokenDataset
from byte_tokenizer import ByteTokenizer


@pytest.fixture(scope="session")
def byte_tokenizer():
    return ByteTokenizer()


@pytest.fixture(scope="session")
def make_byte_tokenizer():
    return ByteTokenizer


def _manifest(pieces, starts=(0,), vocab_size=1000, **changes):
    stored = [np.asarray(piece, dtype="<u4").tobytes() for piece in pieces]
    offsets = b"".join(struct.pack("<Q", start) for start in starts)
    values = {
        "format_version": 2,
        "status": "complete",
        "producer_version": "apr test",
        "tokenizer_sha256": "a" * 64,
        "normalization": "none",
        "vocab_size": vocab_size,
        "eos_policy": "none",
        "eos_token_id": None,
        "corpus_sha256": "b" * 64,
        "bad": dict.fromkeys(("not_utf8", "not_json", "field_missing", "field_not_text", "format_unread"), 0),
        "empty_documents": 0,
        "split": SplitRecord(rule="test", seed=42, fraction=0.0, part="train"),
        "seq_length_hint": None,
        "total_documents": len(starts),
        "total_tokens": sum(len(piece) for piece in pieces),
        "total_bytes": 1,
        "max_token_id": max((int(max(piece)) for piece in pieces if len(piece)), default=0),
        "shard_count": len(pieces),
        "shards": tuple(
            ShardRecord(name=shard_name(i), sha256=sha256(content).hexdigest(), num_tokens=len(piece))
            for i, (piece, content) in enumerate(zip(pieces, stored, strict=True))
        ),
        "documents_sha256": sha256(offsets).hexdigest(),
        "dedup": None,
        "engine": {"name": "bytes", "version": "1", "audited_share": 1.0},
        "elapsed_s": 1.5,
    }
    values |= changes
    separators = {"after": len(starts), "between": len(starts) - 1, "none": 0}[values["eos_policy"]]
    source = SourceRecord(
        name="text",
        weight=1.0,
        num_documents=values["total_documents"],
        num_tokens=values["total_tokens"] - separators,
        num_bytes=values["total_bytes"],
    )
    return Manifest(**{"sources": (source,), **values}), stored, offsets


@pytest.fixture(scope="session")
def make_manifest():
    return lambda pieces, **changes: _manifest(pieces, **changes)[0]


@pytest.fixture(scope="session")
def write_dataset():
    """Write shards of these lengths, with a manifest that is true of them unless changed."""

    def write(folder: Path, pieces, **changes) -> Path:
        manifest, stored, offsets = _manifest(pieces, **changes)
        folder.mkdir(parents=True, exist_ok=True)
        for shard, content in zip(manifest.shards, stored, strict=True):
            (folder / shard.name).write_bytes(content)
        (folder / "documents.bin").write_bytes(offsets)
        (folder / "manifest.json").write_text(json.dumps(manifest.to_dict()))
        return folder

    return write


@pytest.fixture(scope="session")
def memory_dataset():
    """A dataset that lies in memory."""

    def make(pieces, **changes) -> TokenDataset:
        arrays = [np.asarray(piece, dtype="<u4") for piece in pieces]
        return TokenDataset(
            folder=Path("memory"),
            manifest=_manifest(pieces, **changes)[0],
            shards=tuple(arrays),
            starts=np.array([0, *np.cumsum([len(piece) for piece in pieces])], dtype=np.int64),
            document_starts=np.zeros(1, dtype="<u8"),
        )

    return make
