"""The safetensors files of a folder: which of them are the checkpoint, and where each tensor lies in them.

A folder in which two files could be the weights is refused. Loaders differ in which one they take, and a
stale single file beside a newer index then loads without a word.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from apr.base.errors import CannotRead
from apr.base.files import read_json
from apr.convert.errors import (
    IndexContradicted,
    NameRepeated,
    SourceAmbiguous,
    SourceIncomplete,
    SourceUnreadable,
)

INDEX = "model.safetensors.index.json"
_NUMPY = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor in a safetensors file: `start` and `end` are bytes from the file's beginning."""

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    def values(self) -> np.ndarray:
        """Map the stored values: float32, float16, or uint16 for BF16.

        Raises:
            CannotRead: the file is not there any more.
        """
        dtype = np.dtype(_NUMPY[self.dtype]).newbyteorder("<")
        try:
            mapped = np.memmap(self.path, dtype=np.uint8, mode="r")
        except OSError as error:
            raise CannotRead(path=str(self.path), reason=error.strerror or str(error)) from error
        return np.asarray(mapped[self.start : self.end]).view(dtype).reshape(self.shape)


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files that are the checkpoint, in order.

    Raises:
        SourceIncomplete: there are none.
        SourceAmbiguous: there are several and no index, some that the index does not name, or an adapter's.
        IndexContradicted: the index names files that are not there.
        CannotRead, BadJson: the index cannot be read.
    """
    present = sorted(path.name for path in folder.glob("*.safetensors"))
    # An adapter's weights belong to the model, and some loaders add them by themselves.
    if adapters := sorted(path.name for path in folder.glob("adapter_*")):
        raise SourceAmbiguous(location=str(folder), found=", ".join([*present, *adapters]))
    if not (folder / INDEX).is_file():
        if not present:
            raise SourceIncomplete(location=str(folder), missing="*.safetensors")
        if len(present) > 1:
            raise SourceAmbiguous(location=str(folder), found=f"{', '.join(present)} and no {INDEX}")
        return (folder / present[0],)
    named = sorted(set(_weight_map(folder).values()))
    if missing := [name for name in named if name not in present]:
        raise IndexContradicted(
            index=str(folder / INDEX), defect="it names files that are not there:", names=", ".join(missing)
        )
    if stale := [name for name in present if name not in named]:
        raise SourceAmbiguous(location=str(folder), found=f"{INDEX} and, not named by it, {', '.join(stale)}")
    return tuple(folder / name for name in named)


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of the folder's checkpoint, by name.

    Raises:
        NameRepeated: a name stands twice, in one file or in two.
        IndexContradicted: the index puts a tensor elsewhere, or lacks it, or names one that is in no file.
        SourceUnreadable, and those of `weight_files`.
    """
    found: dict[str, StoredTensor] = {}
    for path in weight_files(folder):
        for tensor in read_header(path):
            if tensor.name in found:
                raise NameRepeated(path=f"{found[tensor.name].path} and {path.name}", name=tensor.name)
            found[tensor.name] = tensor
    if (folder / INDEX).is_file():
        _require_agreement(folder, found)
    return found


def read_header(path: Path) -> list[StoredTensor]:
    """The tensors of one safetensors file.

    The library judges the file (sizes, overlaps, gaps); it takes the last of two equal names in silence, so
    that alone is looked for here.

    Raises:
        CannotRead, SourceUnreadable, NameRepeated.
    """
    try:
        with safe_open(str(path), framework="numpy"):
            pass
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = stream.read(length)
    except OSError as error:
        raise CannotRead(path=str(path), reason=error.strerror or str(error)) from error
    except SafetensorError as error:
        raise SourceUnreadable(path=str(path), format="safetensors", reason=str(error)) from error
    entries = json.loads(header, object_pairs_hook=lambda pairs: _unique(pairs, path))
    entries.pop("__metadata__", None)
    return [
        StoredTensor(
            path=path,
            name=name,
            dtype=entry["dtype"],
            shape=tuple(entry["shape"]),
            start=8 + length + entry["data_offsets"][0],
            end=8 + length + entry["data_offsets"][1],
        )
        for name, entry in entries.items()
    ]


def _unique(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise NameRepeated(path=str(path), name=next(name for name in names if names.count(name) > 1))
    return values


def _weight_map(folder: Path) -> Mapping[str, str]:
    mapping = read_json(folder / INDEX, kind="index").get("weight_map")
    if not isinstance(mapping, dict) or not all(isinstance(name, str) for name in mapping.values()):
        raise IndexContradicted(index=str(folder / INDEX), defect="it has no", names="weight_map")
    if outside := sorted({name for name in mapping.values() if Path(name).name != name}):
        raise IndexContradicted(
            index=str(folder / INDEX), defect="it names files outside the folder:", names=", ".join(outside)
        )
    return mapping


def _require_agreement(folder: Path, found: Mapping[str, StoredTensor]) -> None:
    mapping = _weight_map(folder)
    wrong = {
        "the files lack tensors that it names:": [name for name in mapping if name not in found],
        "it lacks tensors of the files:": [name for name in found if name not in mapping],
        "it names another file for": [
            name for name, file in mapping.items() if name in found and found[name].path.name != file
        ],
    }
    for defect, names in wrong.items():
        if names:
            raise IndexContradicted(index=str(folder / INDEX), defect=defect, names=", ".join(sorted(names)))
