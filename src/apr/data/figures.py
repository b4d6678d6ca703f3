"""What a dataset holds, in figures: how large it is, which documents are there twice, which are the longest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from apr.data.shards import TokenDataset

NUM_LONGEST = 5
NUM_SAMPLES = 3
_BLOCK_TOKENS = 1 << 22  # 16 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFigures:
    """The figures of one side."""

    num_tokens: int  # separators included
    num_documents: int
    num_bytes: int
    bytes_per_token: float  # separators left out
    num_duplicates: int  # documents with the ids of an earlier one
    longest: tuple[tuple[int, int], ...]  # document and its tokens, separator included; the longest first


def dataset_figures(dataset: TokenDataset, hashes: np.ndarray) -> DatasetFigures:
    """Take the figures of a dataset.

    Args:
        dataset: open.
        hashes: of `document_hashes`.
    """
    manifest = dataset.manifest
    num_documents = manifest.total_documents
    separators = {"after": num_documents, "between": num_documents - 1, "none": 0}[manifest.eos_policy]
    return DatasetFigures(
        num_tokens=manifest.total_tokens,
        num_documents=num_documents,
        num_bytes=manifest.total_bytes,
        bytes_per_token=manifest.total_bytes / max(1, manifest.total_tokens - separators),
        num_duplicates=num_documents - len(np.unique(hashes)),
        longest=_longest(dataset),
    )


def document_hashes(dataset: TokenDataset, on_progress: Callable[[int], None] | None = None) -> np.ndarray:
    """A hash of the ids of each document, its separator left out: [documents] u64, the first 8 bytes of BLAKE2b.

    Args:
        dataset: open.
        on_progress: called now and then with the documents done.
    """
    hashes = np.empty(dataset.manifest.total_documents, dtype=np.uint64)
    first = 0
    while first < len(hashes):
        last, tokens, starts = _block(dataset, first)
        for index in range(first, last):
            ids = tokens[starts[index - first] : starts[index - first + 1]]
            hashes[index] = _hash(_without_separator(dataset, index, ids))
        first = last
        if on_progress is not None:
            on_progress(first)
    return hashes


def sample_documents(num_documents: int) -> list[int]:
    """A few documents spread over the dataset, the same ones every time."""
    chosen = min(NUM_SAMPLES, num_documents)
    return [number * num_documents // chosen for number in range(chosen)]


def _block(dataset: TokenDataset, first: int) -> tuple[int, np.ndarray, np.ndarray]:
    """The documents from `first` on that fill a block, one at least: their end, tokens, and starts among these."""
    all_starts = dataset.document_starts
    begin = int(all_starts[first])
    last = int(np.searchsorted(all_starts, begin + _BLOCK_TOKENS, side="right")) - 1
    last = max(last, first + 1) if begin + _BLOCK_TOKENS < dataset.total_tokens else len(all_starts)
    end = dataset.total_tokens if last == len(all_starts) else int(all_starts[last])
    starts = np.append(all_starts[first:last].astype(np.int64), end) - begin
    return last, dataset.slice(begin, end), starts


def _without_separator(dataset: TokenDataset, index: int, ids: np.ndarray) -> np.ndarray:
    policy, is_last = dataset.manifest.eos_policy, index + 1 == dataset.manifest.total_documents
    return ids[:-1] if policy == "after" or (policy == "between" and not is_last) else ids


def _hash(ids: np.ndarray) -> int:
    return int.from_bytes(hashlib.blake2b(ids.tobytes(), digest_size=8).digest(), "little")


def _longest(dataset: TokenDataset) -> tuple[tuple[int, int], ...]:
    ends = np.append(dataset.document_starts[1:].astype(np.int64), dataset.total_tokens)
    sizes = ends - dataset.document_starts.astype(np.int64)
    order = np.lexsort((np.arange(len(sizes)), -sizes))[:NUM_LONGEST]
    return tuple((int(index), int(sizes[index])) for index in order)
