"""Faults of a source folder that lie in its files: which are there, what names them, and whether they are whole."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from apr.stepzero.faults.fault import Fault
from apr.stepzero.faults.folders import (
    EMBEDDING,
    INDEX,
    SINGLE,
    other_weights,
    read_header,
    read_json,
    read_tensors,
    replace_by_pointer,
    shard,
    weight_paths,
    with_header,
    write_bytes,
    write_json,
    write_tensors,
)
from apr.stepzero.faults.planting import source_fault

# A GGUF file without a tensor: magic, version 3, no tensors, no keys.
_EMPTY_GGUF = b"GGUF" + (3).to_bytes(4, "little") + bytes(16)


def _stale_single_file(folder: Path) -> None:
    stale = {
        name: other_weights(found)
        for path in weight_paths(folder)
        for name, found in read_tensors(path).items()
    }
    shard(folder)
    write_tensors(folder / SINGLE, stale)


def _index_missing(folder: Path) -> None:
    shard(folder)
    (folder / INDEX).unlink()


def _shard_missing(folder: Path) -> None:
    shard(folder)[-1].unlink()


def _extra_shard(folder: Path) -> None:
    last = shard(folder)[-1]
    stale = {name: other_weights(found) for name, found in read_tensors(last).items()}
    write_tensors(folder / "model-00003-of-00003.safetensors", stale)


def _name_in_two_shards(folder: Path) -> None:
    # The index names the right shard, and another one holds the tensor too.
    paths = shard(folder)
    mapping = read_json(folder / INDEX)["weight_map"]
    holder = folder / mapping[EMBEDDING]
    other = next(path for path in reversed(paths) if path != holder)
    again = other_weights(read_tensors(holder)[EMBEDDING])
    write_tensors(other, {EMBEDDING: again} | read_tensors(other))


def _edit_map(change: Callable[[dict[str, str], list[str]], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        names = [path.name for path in shard(folder)]
        index = read_json(folder / INDEX)
        change(index["weight_map"], names)
        write_json(folder / INDEX, index)

    return edit


def _swap_shards(mapping: dict[str, str], names: list[str]) -> None:
    mapping[EMBEDDING] = next(name for name in names if name != mapping[EMBEDDING])


def _forget_tensor(mapping: dict[str, str], names: list[str]) -> None:
    del mapping["model.layers.0.mlp.down_proj.weight"]


def _name_too_many(mapping: dict[str, str], names: list[str]) -> None:
    mapping["model.layers.0.mlp.extra_proj.weight"] = names[-1]


def _gguf_beside(folder: Path) -> None:
    write_bytes(folder / "model-q4_k_m.gguf", _EMPTY_GGUF)


def _two_gguf(folder: Path) -> None:
    for path in (*weight_paths(folder), folder / INDEX):
        path.unlink(missing_ok=True)
    for name in ("model-q4_k_m.gguf", "model-q6_k.gguf"):
        write_bytes(folder / name, _EMPTY_GGUF)


def _no_weights(folder: Path) -> None:
    for path in (*weight_paths(folder), folder / INDEX):
        path.unlink(missing_ok=True)


def _truncated(folder: Path) -> None:
    path = weight_paths(folder)[-1]
    fresh = path.with_name(f".{path.name}.new")
    with path.open("rb") as whole, fresh.open("wb") as part:
        part.write(whole.read(path.stat().st_size * 3 // 4))
    os.replace(fresh, path)


def _trailing(folder: Path) -> None:
    path = weight_paths(folder)[-1]
    write_bytes(path, path.read_bytes() + bytes(4096))


def _repeated_name(folder: Path) -> None:
    # Written by hand, as no library writes it. The second entry is the one that readers keep.
    path = next(path for path in weight_paths(folder) if EMBEDDING in read_header(path)[0])
    found = read_tensors(path)
    write_tensors(path, found | {"again": other_weights(found[EMBEDDING])})
    header, begin = read_header(path)
    text = json.dumps(header, separators=(",", ":")).replace('"again":', f'"{EMBEDDING}":')
    write_bytes(path, with_header(text.encode(), path.read_bytes()[begin:]))


_fault = partial(source_fault, "files")
FILE_FAULTS: tuple[Fault, ...] = (
    _fault(
        "stale-single-file",
        "a stale model.safetensors was left beside a newer sharded checkpoint",
        _stale_single_file,
        "S-126",
        quick=True,
    ),
    _fault("index-missing", "the index of the sharded checkpoint was not copied", _index_missing, "S-92"),
    _fault(
        "shard-missing",
        "a shard that the index names was not copied",
        _shard_missing,
        *("S-25", "S-92"),
        quick=True,
    ),
    _fault(
        "extra-shard",
        "a shard of another upload was left in the folder, and the index does not name it",
        _extra_shard,
        "S-126",
    ),
    source_fault(
        "tensors",
        "name-in-two-shards",
        "a second shard held another embedding under the same name",
        _name_in_two_shards,
        "S-126",
    ),
    _fault(
        "index-contradicts",
        "the index put the embedding into another shard than the one that holds it",
        _edit_map(_swap_shards),
        "S-126",
    ),
    _fault(
        "index-forgets",
        "the index did not name one matrix of its shards",
        _edit_map(_forget_tensor),
        *("S-31", "S-126"),
    ),
    _fault(
        "index-names-more",
        "the index named a tensor that no shard holds",
        _edit_map(_name_too_many),
        "S-126",
    ),
    _fault("gguf-beside", "a GGUF file lay beside the safetensors", _gguf_beside, "S-126"),
    _fault("two-gguf", "two GGUF files lay there, and nothing said which is the model", _two_gguf, "S-126"),
    _fault("no-weights", "the weights were not copied at all", _no_weights, *("S-92", "S-122")),
    _fault(
        "truncated",
        "the download of the weights broke off at three quarters",
        _truncated,
        *("S-24", "S-110"),
    ),
    _fault("trailing-bytes", "bytes stood behind the last tensor of the weights", _trailing, "S-89"),
    _fault(
        "lfs-pointer",
        "a Git LFS pointer lay where the weights belong",
        lambda folder: replace_by_pointer(weight_paths(folder)[-1]),
        "S-91",
        quick=True,
    ),
    _fault(
        "name-repeated",
        "the header of the weights named the embedding twice, the second time for other bytes",
        _repeated_name,
        "S-126",
    ),
)
