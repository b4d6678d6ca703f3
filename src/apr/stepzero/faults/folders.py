"""What an edit of a Hugging Face folder needs: its JSON files, and its tensors as the bits that are stored.

Nothing is widened, and a file is never written in place: the new one takes its name. So a 135M model is spoilt in a
second, and a copy of a folder may be made of links without the original being touched.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
FINAL_NORM = "model.norm.weight"
# The pattern of ones, of NaN and of infinity, and which bit is the exponent's highest.
_ONE = {"F32": 0x3F800000, "F16": 0x3C00, "BF16": 0x3F80}
_NAN = {"F32": 0x7FC00000, "F16": 0x7E00, "BF16": 0x7FC0}
_INFINITE = {"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80}
_WIDTH = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bits:
    """A stored tensor: its label and its bits, as unsigned integers of the label's width in the tensor's shape."""

    dtype: str
    bits: np.ndarray

    @property
    def one(self) -> int:
        """The bits of 1.0."""
        return _ONE[self.dtype]

    @property
    def nan(self) -> int:
        """The bits of a NaN."""
        return _NAN[self.dtype]

    @property
    def infinity(self) -> int:
        """The bits of infinity."""
        return _INFINITE[self.dtype]

    def values(self) -> np.ndarray:
        """The numbers, as float32; exact."""
        if self.dtype == "BF16":
            return (self.bits.astype(np.uint32) << 16).view(np.float32)
        return self.bits.view(np.float32 if self.dtype == "F32" else np.float16).astype(np.float32)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of the folder; an absent one is empty."""
    return dict(json.loads(path.read_bytes())) if path.is_file() else {}


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file of the folder in the order of its keys."""
    write_bytes(path, json.dumps(values, indent=2, ensure_ascii=False).encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Put a new file under the name; what a link pointed at stays as it was."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(content)
    os.replace(fresh, path)


def replace_by_pointer(path: Path) -> None:
    """Put the pointer in a file's place that a clone without Git LFS leaves."""
    oid = hashlib.sha256(path.name.encode()).hexdigest()
    size = path.stat().st_size
    write_bytes(path, f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n".encode())


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json."""
    return read_json(folder / "config.json")


def edit_config(folder: Path, **changes: Any) -> None:
    """Set keys of config.json; a value of `...` takes the key away."""
    values = read_config(folder) | changes
    write_json(folder / "config.json", {key: value for key, value in values.items() if value is not ...})


def heads(folder: Path) -> tuple[int, int, int]:
    """Query heads, key-value heads and the width of a head, as the config says."""
    values = read_config(folder)
    num_heads = values["num_attention_heads"]
    head_dim = values.get("head_dim") or values["hidden_size"] // num_heads
    return num_heads, values.get("num_key_value_heads") or num_heads, head_dim


def layer(number: int, part: str) -> str:
    """The name of a layer's tensor."""
    return f"model.layers.{number}.{part}"


def last_layer(folder: Path) -> int:
    """The number of the last layer."""
    return int(read_config(folder)["num_hidden_layers"]) - 1


def weight_paths(folder: Path) -> list[Path]:
    """The files that are the checkpoint: those of the index, or the one file."""
    if (folder / INDEX).is_file():
        return [folder / name for name in sorted(set(read_json(folder / INDEX)["weight_map"].values()))]
    return sorted(folder.glob("*.safetensors"))


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """A safetensors file's header as it stands, and where the data begins."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        return json.loads(stream.read(length)), 8 + length


def with_header(header: bytes, data: bytes | np.ndarray) -> bytes:
    """A safetensors file of a header that is taken as it is, and data."""
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + bytes(data)


def read_tensors(path: Path) -> dict[str, Bits]:
    """Every tensor of a safetensors file, mapped and not read, in the order of the data."""
    header, begin = read_header(path)
    header.pop("__metadata__", None)
    mapped = np.memmap(path, dtype=np.uint8, mode="r")
    found = {}
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, end = entry["data_offsets"]
        width = np.dtype(f"<u{_WIDTH.get(entry['dtype'], 1)}")
        bits = np.asarray(mapped[begin + start : begin + end]).view(width).reshape(entry["shape"])
        found[name] = Bits(dtype=entry["dtype"], bits=bits)
    return found


def write_tensors(path: Path, tensors: Mapping[str, Bits]) -> None:
    """Write a safetensors file of stored tensors; they may be mapped from the file that it replaces."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.bits.shape),
            "data_offsets": [at, at + tensor.bits.nbytes],
        }
        at += tensor.bits.nbytes
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("wb") as stream:
        stream.write(with_header(json.dumps(header, separators=(",", ":")).encode(), b""))
        for tensor in tensors.values():
            stream.write(np.ascontiguousarray(tensor.bits).data)
    os.replace(fresh, path)


def tensor(folder: Path, name: str) -> Bits:
    """One tensor of the checkpoint.

    Raises:
        KeyError: it is in none of the files.
    """
    for path in weight_paths(folder):
        header, _ = read_header(path)
        if name in header:
            return read_tensors(path)[name]
    raise KeyError(name)


def tensor_names(folder: Path) -> list[str]:
    """The names of the checkpoint's tensors."""
    names = {name for path in weight_paths(folder) for name in read_header(path)[0]}
    return sorted(names - {"__metadata__"})


def has_tensor(folder: Path, name: str) -> bool:
    """Whether the checkpoint stores a tensor."""
    return name in tensor_names(folder)


def put_tensors(folder: Path, changes: Mapping[str, Bits | None]) -> None:
    """Replace tensors, add those of new names to the last file, drop those that are None; the index follows."""
    paths = weight_paths(folder)
    for path in paths:
        found = read_tensors(path)
        here = {name: change for name, change in changes.items() if name in found}
        if path == paths[-1]:
            here |= {name: change for name, change in changes.items() if not has_tensor(folder, name)}
        if here:
            kept = found | here
            write_tensors(path, {name: kind for name, kind in kept.items() if kind is not None})
    if (folder / INDEX).is_file():
        write_index(folder, paths)


def change_bits(folder: Path, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Put what `change` makes of a copy of a tensor's bits in its place."""
    found = tensor(folder, name)
    put_tensors(folder, {name: Bits(dtype=found.dtype, bits=change(found.bits.copy()))})


def write_index(folder: Path, paths: list[Path]) -> None:
    """Write the index that the files call for."""
    weight_map, total = {}, 0
    for path in paths:
        for name, found in read_tensors(path).items():
            weight_map[name] = path.name
            total += found.bits.nbytes
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def shard(folder: Path) -> list[Path]:
    """Make the checkpoint one of several files and an index, where it is not; returns the files.

    The names are the published ones; the first half of the tensors, in the order of the data, is in the first file.
    """
    paths = weight_paths(folder)
    if len(paths) > 1:
        return paths
    found = read_tensors(paths[0])
    names = list(found)
    parts = (names[: len(names) // 2], names[len(names) // 2 :])
    shards = []
    for number, part in enumerate(parts, start=1):
        shards.append(folder / f"model-{number:05d}-of-00002.safetensors")
        write_tensors(shards[-1], {name: found[name] for name in part})
    paths[0].unlink()
    write_index(folder, shards)
    return shards


def other_weights(found: Bits) -> Bits:
    """Weights of another run, as far as shapes can tell: every matrix with its rows in reverse, vectors as they are."""
    return Bits(dtype=found.dtype, bits=found.bits[::-1]) if found.bits.ndim == 2 else found
