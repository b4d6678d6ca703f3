"""Corpora for tests of what leaves documents out, and what the encoder made of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

from apr.data.shards import open_dataset
from apr.data.writer import DUPLICATES_NAME
from byte_tokenizer import ByteTokenizer


def write_source(folder: Path, texts: list[str]) -> Path:
    folder.mkdir(parents=True)
    for number, text in enumerate(texts):
        (folder / f"{number:03d}.txt").write_text(text)
    return folder


def texts_of(folder: Path) -> list[str]:
    """Every document of a side, in order, without its separator."""
    dataset, tokenizer = open_dataset(folder), ByteTokenizer()
    eos = dataset.manifest.eos_token_id
    documents = (dataset.document(i, 10**6).tolist() for i in range(len(dataset.document_starts)))
    return [tokenizer.decode([token for token in ids if token != eos]) for ids in documents]


def listed(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / DUPLICATES_NAME).read_text().splitlines()]


def reference_shingles(text: str) -> set[tuple[str, ...]]:
    """The shingles of an ASCII text, made the plain way."""
    units: list[str] = []
    for unit in re.findall(r"[0-9A-Za-z_]+|[^\s0-9A-Za-z_]", text):
        units += unit if len(unit) > 40 else [unit]
    if len(units) < 5:
        return {tuple(units)} if units else set()
    return {tuple(units[place : place + 5]) for place in range(len(units) - 4)}
