"""`apr data audit`: what a dataset holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from apr.data.assembly import VALIDATION_FOLDER
from apr.data.figures import dataset_figures, document_hashes, sample_documents
from apr.data.manifest import MANIFEST_NAME
from apr.data.shards import TokenDataset, open_dataset
from apr.stepzero.gates import unigram_entropy
from apr.tokenizer.engine import TextTokenizer
from apr.train.errors import TokenizerMismatch
from apr.train.inputs import read_tokenizer

_SAMPLE_TOKENS = 48
Progress = Callable[[str, int, int | None], None]  # phase, done, in all


def audit_dataset(
    folder: Path, *, tokenizer_path: Path | None = None, on_progress: Progress | None = None
) -> dict[str, Any]:
    """Check every byte of a dataset and say what it holds, its held-out side too where there is one.

    Args:
        folder: the dataset.
        tokenizer_path: a folder, tokenizer.json or .apr file; without it unknown tokens are not known, and no text is
            shown.
        on_progress: called while documents are hashed.

    Returns:
        {path, digest, format_version, tokenizer_sha256, eos_policy, sources, dedup, sides: [{part, path, num_tokens,
        num_documents, num_bytes, bytes_per_token, unigram_entropy_nats, num_distinct_ids, vocab_size, num_duplicates,
        num_unknown, longest, samples}], num_shared}; `num_shared` counts held-out documents that are trained on.

    Raises:
        TokenizerMismatch: the tokenizer is not the one that the shards were made with.
        AprError: what is wrong with the dataset or the tokenizer.
    """
    tokenizer = TextTokenizer(read_tokenizer(tokenizer_path, None)) if tokenizer_path else None
    folders = [folder]
    if (folder / VALIDATION_FOLDER / MANIFEST_NAME).is_file():
        folders.append(folder / VALIDATION_FOLDER)
    datasets = [open_dataset(path) for path in folders]
    for dataset in datasets:
        _require_tokenizer(dataset, tokenizer)
    hashes = [_hashes(dataset, on_progress) for dataset in datasets]
    manifest = datasets[0].manifest
    return {
        "path": str(folder),
        "digest": manifest.digest,
        "format_version": manifest.format_version,
        "tokenizer_sha256": manifest.tokenizer_sha256,
        "eos_policy": manifest.eos_policy,
        "sources": [asdict(source) for source in manifest.sources],
        "dedup": manifest.dedup,
        "sides": [_side(dataset, found, tokenizer) for dataset, found in zip(datasets, hashes, strict=True)],
        "num_shared": int(np.isin(hashes[1], hashes[0]).sum()) if len(hashes) > 1 else 0,
    }


def _side(dataset: TokenDataset, hashes: np.ndarray, tokenizer: TextTokenizer | None) -> dict[str, Any]:
    counts = dataset.token_counts()
    figures = asdict(dataset_figures(dataset, hashes))
    longest = [{"document": index, "num_tokens": size} for index, size in figures.pop("longest")]
    unknown = tokenizer.unknown_id if tokenizer is not None else None
    return {
        "part": dataset.manifest.split.part,
        "path": str(dataset.folder),
        **figures,
        "unigram_entropy_nats": unigram_entropy(counts),
        "num_distinct_ids": int(np.count_nonzero(counts)),
        "vocab_size": dataset.manifest.vocab_size,
        "num_unknown": int(counts[unknown]) if unknown is not None else None,
        "longest": longest,
        "samples": _samples(dataset, tokenizer) if tokenizer is not None else [],
    }


def _samples(dataset: TokenDataset, tokenizer: TextTokenizer) -> list[dict[str, Any]]:
    found = []
    for index in sample_documents(dataset.manifest.total_documents):
        ids = dataset.document(index, _SAMPLE_TOKENS).tolist()
        found.append({"document": index, "text": tokenizer.decode(ids)})
    return found


def _hashes(dataset: TokenDataset, on_progress: Progress | None) -> np.ndarray:
    total = dataset.manifest.total_documents

    def progress(done: int) -> None:
        if on_progress is not None:
            on_progress(f"hashing the {dataset.manifest.split.part} documents", done, total)

    return document_hashes(dataset, progress)


def _require_tokenizer(dataset: TokenDataset, tokenizer: TextTokenizer | None) -> None:
    found = dataset.manifest.tokenizer_sha256
    if tokenizer is not None and tokenizer.definition.sha256 != found:
        raise TokenizerMismatch(
            dataset=str(dataset.folder), found=found, expected=tokenizer.definition.sha256
        )
