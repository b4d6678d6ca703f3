"""Faults of token shards: damaged ones, and ones that an encoder wrote wrongly and in good order."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from apr.data.manifest import DOCUMENTS_NAME, MANIFEST_NAME
from apr.stepzero.faults.aprfiles import flip_bit
from apr.stepzero.faults.datasets import (
    Tokens,
    agreeing,
    drop_from_manifest,
    edit_manifest,
    first_shard,
    relabel,
    starts_of,
)
from apr.stepzero.faults.fault import Fault


def _fault(
    name: str, gate: str, says: str, edit: Callable[[Path], None], imitates: tuple[str, ...], **more: Any
) -> Fault:
    return Fault(
        id=f"shards.{name}", imitates=imitates, place="shards", gate=gate, says=says, edit=edit, **more
    )


def _truncate(folder: Path, num_bytes: int) -> None:
    path = first_shard(folder)
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size - num_bytes)


def _extra(folder: Path) -> None:
    shutil.copyfile(first_shard(folder), folder / "shard-00099.bin")


def _manifest(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / MANIFEST_NAME
        values = json.loads(path.read_bytes())
        change(values)
        path.write_text(json.dumps(values))

    return edit


def _count_wrong(values: dict[str, Any]) -> None:
    values["total_tokens"] += 1


def _vocab(folder: Path) -> int:
    return int(json.loads((folder / MANIFEST_NAME).read_bytes())["vocab_size"])


def _eos(folder: Path) -> int:
    return int(json.loads((folder / MANIFEST_NAME).read_bytes())["eos_token_id"])


def _greater_id(tokens: Tokens, folder: Path) -> Tokens:
    tokens[len(tokens) // 2] = 1 << 20
    return tokens


def _one_token(tokens: Tokens, folder: Path) -> Tokens:
    """The vocabulary's spelling and the encoder's differ, so every look-up misses (and the separators are right)."""
    separator = _eos(folder)
    return np.where(tokens == separator, separator, 5 if separator != 5 else 6)


def _random_ids(tokens: Tokens, folder: Path) -> Tokens:
    rng = np.random.default_rng(0)
    separator = _eos(folder)
    return np.where(tokens == separator, separator, rng.integers(0, _vocab(folder), len(tokens)))


def _other_ids(tokens: Tokens, folder: Path) -> Tokens:
    """Ids of a tokenizer whose vocabulary is in another order."""
    size, separator = _vocab(folder), _eos(folder)
    order = np.random.default_rng(1).permutation(size)
    return np.where(tokens == separator, separator, order[tokens % size])


def _shifted_ids(tokens: Tokens, folder: Path) -> Tokens:
    size, separator = _vocab(folder), _eos(folder)
    return np.where(tokens == separator, separator, (tokens.astype(np.int64) + 1) % size)


def _clamped(tokens: Tokens, folder: Path) -> Tokens:
    """Ids above a smaller vocabulary were clamped to its last one."""
    separator = _eos(folder)
    return np.where(tokens == separator, separator, np.minimum(tokens, 20))


def _reversed(tokens: Tokens, folder: Path) -> Tokens:
    return tokens.byteswap()


def _other_separator(tokens: Tokens, folder: Path) -> Tokens:
    return np.where(tokens == _eos(folder), 9 if _eos(folder) != 9 else 10, tokens)


def _without_separator(folder: Path) -> None:
    """The separators were left out of the shards, and the documents' places follow."""
    path, eos = first_shard(folder), _eos(folder)
    tokens, starts = np.fromfile(path, dtype="<u4"), starts_of(folder)
    kept = tokens != eos
    before = np.concatenate([[0], np.cumsum(kept)])
    tokens[kept].tofile(path)
    before[starts.astype(np.int64)].astype("<u8").tofile(folder / DOCUMENTS_NAME)
    relabel(folder)


def _trained_on(folder: Path) -> None:
    """The held-out shards are the beginning of the training shards: a reader that wrapped around."""
    held_out = folder / "val"
    count = len(np.fromfile(first_shard(held_out), dtype="<u4"))
    tokens, starts = np.fromfile(first_shard(folder), dtype="<u4"), starts_of(folder)
    ends = starts[starts >= min(count, int(starts[-1]))]
    stop = int(ends[0]) if len(ends) else len(tokens)
    tokens[:stop].tofile(first_shard(held_out))
    starts[starts < stop].astype("<u8").tofile(held_out / DOCUMENTS_NAME)
    relabel(held_out)


def _moved_documents(folder: Path) -> None:
    flip_bit(folder / DOCUMENTS_NAME, 8)


SHARD_FAULTS: tuple[Fault, ...] = (
    _fault("bit", "tokens.shards", "a bit of a shard was flipped", lambda f: flip_bit(first_shard(f), 401), ("S-24",),
           quick=True),
    _fault("cut", "tokens.shards", "a shard ended one token early", lambda f: _truncate(f, 4), ("S-25",), quick=True),
    _fault("half-token", "tokens.shards", "a shard ended within a token", lambda f: _truncate(f, 2), ("S-25",)),
    _fault("missing", "tokens.shards", "a shard was missing", lambda f: first_shard(f).unlink(), ("S-25",), quick=True),
    _fault("extra", "tokens.shards", "a shard of another encoding lay in the folder", _extra, ("S-25",), quick=True),
    _fault("unfinished", "tokens.shards", "the encoding had been killed",
           lambda f: edit_manifest(f, status="in progress"), ("S-24",), quick=True),
    _fault("no-manifest", "tokens.shards", "the manifest was missing", lambda f: (f / MANIFEST_NAME).unlink(), ("S-24",),
           quick=True),
    _fault("manifest-field", "tokens.shards", "the manifest named no tokenizer",
           lambda f: drop_from_manifest(f, "tokenizer_sha256"), ("S-23",)),
    _fault("manifest-count", "tokens.shards", "the manifest counted another number of tokens", _manifest(_count_wrong),
           ("S-17",)),
    _fault("manifest-unknown", "tokens.shards", "the manifest had a field that nothing reads",
           lambda f: edit_manifest(f, shuffled=True), ("S-09",)),
    _fault("documents", "tokens.shards", "the places of the documents had changed", _moved_documents, ("S-24",)),
    _fault("no-validation", "tokens.shards", "there was no held-out part", lambda f: shutil.rmtree(f / "val"), ("S-72",)),
    _fault("greater-id", "tokens.ids", "an id had no row in the embedding", agreeing(_greater_id), ("S-20",), quick=True),
    _fault("one-token", "tokens.statistics", "every look-up had missed, so that all text was one token",
           agreeing(_one_token), ("S-16",), quick=True),
    _fault("random-ids", "tokens.sample", "the ids followed no text", agreeing(_random_ids), ("S-17",)),
    _fault("other-ids", "tokens.sample", "the ids were those of a vocabulary in another order", agreeing(_other_ids),
           ("S-18",), quick=True),
    _fault("shifted-ids", "tokens.sample", "every id was one too great", agreeing(_shifted_ids), ("S-18",)),
    _fault("clamped-ids", "tokens.statistics", "ids above a bound had been clamped to it", agreeing(_clamped), ("S-20",)),
    _fault("byte-order", "tokens.shards", "the bytes of every id were in the other order", agreeing(_reversed), ("S-25",)),
    _fault("other-separator", "tokens.eos", "documents ended with another token than end-of-text",
           agreeing(_other_separator), ("S-19",)),
    _fault("no-separator", "tokens.eos", "the separators between documents had been left out", _without_separator,
           ("S-19",), quick=True),
    _fault("validation-trained-on", "tokens.split", "the held-out part was the beginning of the training part",
           _trained_on, ("S-71",), quick=True),
)  # fmt: skip
