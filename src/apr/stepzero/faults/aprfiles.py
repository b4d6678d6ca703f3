"""Ways to spoil an `.apr` file: single bytes as a disk would, or the whole as another writer would, with fresh checksums."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apr.aprfile.keys import FIELDS, OWN_KEY
from apr.aprfile.layout import HEADER_BYTES, Header, header_checksum, parse_header
from apr.aprfile.placement import TensorSource
from apr.aprfile.reader import open_apr
from apr.aprfile.writer import write_apr
from apr.arch.inventory import HEAD

Metadata = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A tensor of a file."""

    dtype: str
    shape: tuple[int, ...]
    produce: Callable[[], np.ndarray]  # as stored
    wide: Callable[[], np.ndarray]  # in fp32


@dataclass(kw_only=True)
class Contents:
    """An `.apr` file taken apart: metadata and tensors, to be changed and written again."""

    metadata: Metadata
    tensors: dict[str, Stored]
    aliases: dict[str, str]

    @property
    def own(self) -> Metadata:
        """What only this program reads."""
        own: Metadata = self.metadata[OWN_KEY]
        return own

    @property
    def config(self) -> Metadata:
        """The config."""
        config: Metadata = self.own["config"]
        return config

    def middle(self, suffix: str) -> str:
        """The name of the middle layer's tensor with that suffix."""
        return f"model.layers.{self.config['num_hidden_layers'] // 2}.{suffix}"

    def change(self, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
        """Change a tensor's fp32 values; it is stored as F32 then."""
        before = self.tensors[name]

        def values() -> np.ndarray:
            return np.ascontiguousarray(change(np.array(before.wide())), dtype="<f4")

        self.tensors[name] = Stored(dtype="F32", shape=before.shape, produce=values, wide=values)

    def set_config(self, **changes: Any) -> None:
        """Change config fields everywhere the file states them, so that nothing contradicts them."""
        keys = {field: key for key, field in FIELDS.items()}
        for field, value in changes.items():
            self.config[field] = value
            if (key := keys.get(field)) in self.metadata:
                self.metadata[str(key)] = value


def rewritten(path: Path, edit: Callable[[Contents], None]) -> None:
    """Take a file apart, spoil it, and write it with checksums and digests of the spoilt contents."""
    with open_apr(path, "structure") as file:

        def stored(name: str) -> Stored:
            entry = file.entries[name]
            return Stored(
                dtype=entry.dtype,
                shape=entry.shape,
                produce=lambda: file.array(name),
                wide=lambda: file.as_f32(name),
            )

        contents = Contents(
            metadata=_copied(file.metadata),
            tensors={name: stored(name) for name in file.entries if name not in file.aliases},
            aliases=dict(file.aliases),
        )
        edit(contents)
        sources = [
            TensorSource(name=name, dtype=tensor.dtype, shape=tensor.shape, produce=tensor.produce)
            for name, tensor in contents.tensors.items()
        ]
        write_apr(path, contents.metadata, sources, contents.aliases)


def rewriting(edit: Callable[[Contents], None]) -> Callable[[Path], None]:
    """Make the edit of a path that takes the file apart, spoils it and writes it again."""
    return lambda path: rewritten(path, edit)


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def flip_bit(path: Path, offset: int, bit: int = 0) -> None:
    """Flip one bit of a file, in place."""
    with path.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([byte ^ (1 << bit)]))


def overwrite(path: Path, offset: int, content: bytes) -> None:
    """Write over bytes of a file, in place."""
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(content)


def header_of(path: Path) -> Header:
    """The parsed header."""
    with path.open("rb") as stream:
        return parse_header(stream.read(HEADER_BYTES), path.stat().st_size, str(path))


def repack_header(path: Path, change: Callable[[bytearray], None]) -> None:
    """Change header bytes, and its checksum with them."""
    with path.open("r+b") as stream:
        head = bytearray(stream.read(HEADER_BYTES))
        change(head)
        head[40:44] = struct.pack("<I", header_checksum(bytes(head)))
        stream.seek(0)
        stream.write(head)


def place_of(path: Path, suffix: str) -> tuple[int, int]:
    """Offset and size in bytes of the first tensor whose name ends so, and that is no head."""
    with open_apr(path, "structure") as file:
        entry = next(e for name, e in file.entries.items() if name.endswith(suffix) and name != HEAD)
        return entry.offset, entry.size_bytes
