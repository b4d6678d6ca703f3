"""Ways to spoil a dataset folder: with a manifest that then lies, or with one made to agree, as a faulty encoder's would."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from apr.data.manifest import DOCUMENTS_NAME, MANIFEST_NAME

Tokens = np.ndarray  # u32


def edit_manifest(folder: Path, **changes: Any) -> None:
    """Change fields of a manifest."""
    path = folder / MANIFEST_NAME
    values = json.loads(path.read_bytes())
    path.write_text(json.dumps({**values, **changes}, indent=2, sort_keys=True))


def drop_from_manifest(folder: Path, field: str) -> None:
    """Remove a field of a manifest."""
    path = folder / MANIFEST_NAME
    values = json.loads(path.read_bytes())
    del values[field]
    path.write_text(json.dumps(values))


def first_shard(folder: Path) -> Path:
    """The path of the first shard."""
    return sorted(folder.glob("shard-*.bin"))[0]


def starts_of(folder: Path) -> np.ndarray:
    """Where each document begins, in tokens: u64."""
    return np.fromfile(folder / DOCUMENTS_NAME, dtype="<u8")


def agreeing(change: Callable[[Tokens, Path], Tokens]) -> Callable[[Path], None]:
    """Make an edit that changes the first shard's tokens, and lets the manifest say so."""

    def edit(folder: Path) -> None:
        path = first_shard(folder)
        before = np.fromfile(path, dtype="<u4")
        after = np.ascontiguousarray(change(before.copy(), folder), dtype="<u4")
        after.tofile(path)
        relabel(folder)

    return edit


def _agreeing_sources(values: dict[str, Any], total_tokens: int, total_documents: int) -> dict[str, Any]:
    """One source that gave all documents of a manifest; a manifest of format 1 has none."""
    if "sources" not in values:
        return {}
    separators = {"after": total_documents, "between": total_documents - 1, "none": 0}[values["eos_policy"]]
    source = {
        **values["sources"][0],
        "num_documents": total_documents,
        "num_tokens": max(0, total_tokens - separators),
        "num_bytes": values["total_bytes"],
    }
    return {"sources": [source]}


def relabel(folder: Path) -> None:
    """Write counts and digests of what lies in a folder into its manifest."""
    values = json.loads((folder / MANIFEST_NAME).read_bytes())
    shards: list[dict[str, Any]] = []
    greatest = 0
    for path in sorted(folder.glob("shard-*.bin")):
        content = path.read_bytes()
        ids = np.frombuffer(content, dtype="<u4")
        greatest = max(greatest, int(ids.max()))
        shards.append(
            {"name": path.name, "num_tokens": len(ids), "sha256": hashlib.sha256(content).hexdigest()}
        )
    documents = (folder / DOCUMENTS_NAME).read_bytes()
    total_tokens, total_documents = sum(shard["num_tokens"] for shard in shards), len(documents) // 8
    edit_manifest(
        folder,
        shards=shards,
        shard_count=len(shards),
        total_tokens=total_tokens,
        total_documents=total_documents,
        **_agreeing_sources(values, total_tokens, total_documents),
        documents_sha256=hashlib.sha256(documents).hexdigest(),
        max_token_id=greatest,
        vocab_size=max(values["vocab_size"], greatest + 1) if greatest < 1 << 31 else values["vocab_size"],
    )
