"""The door to GGUF files: the gguf package parses them, and a bad one is told of in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader
from gguf.constants import GGUFValueType

from apr.base.errors import CannotRead
from apr.base.files import require_file
from apr.convert.errors import SourceUnreadable

_FORMAT = "GGUF"
_MAX_ARRAY = 1 << 24  # entries of one metadata array; the largest vocabulary published has 2**18


class _Defect(Exception):
    """The file asks for something that it does not hold."""


class _BoundedReader(GGUFReader):
    """The package's reader, with two bounds that it lacks, and without a cost that it has.

    It takes a slice past the end of the file for an empty one and goes on, so that a crafted length keeps
    it busy without end; and it builds Python objects for every entry of an array, however many are
    promised.
    """

    @property
    def data(self) -> np.ndarray:
        """The mapped file as a plain array: slices of numpy's map class take several times as long."""
        return self._plain

    @data.setter
    def data(self, mapped: np.ndarray) -> None:
        self._plain = np.asarray(mapped)

    def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
        if self.byte_order != "I":
            # The package would swap the fields, but not the numbers inside quantised blocks.
            raise _Defect("its byte order is not this machine's")
        offset, kind = int(offset), np.dtype(dtype)
        end = offset + int(count) * kind.itemsize
        if end > len(self._plain):
            raise _Defect(f"it ends at byte {len(self._plain):,}, and {end:,} are promised")
        return self._plain[offset:end].view(kind)

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
        if raw_type == GGUFValueType.ARRAY:
            entries = int(self._get(orig_offs + 4, np.uint64)[0])
            if entries > _MAX_ARRAY:
                raise _Defect(f"an array of {entries:,} entries is promised")
        return super()._get_field_parts(orig_offs, raw_type)


class GgufFile:
    """An open GGUF file: its fields as Python values, its tensors as views into the mapped file."""

    def __init__(self, path: Path) -> None:
        """Map and parse the file.

        Raises:
            FileMissing, CannotRead, SourceUnreadable: it is not there, or cannot be read as GGUF.
        """
        require_file(path, "GGUF file")
        self.path = path
        self._reader = _open_reader(path)
        try:
            self.fields: dict[str, Any] = {name: _value(field) for name, field in self._reader.fields.items()}
        except (ValueError, IndexError) as error:
            raise _unreadable(path, error) from error
        self.tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        self._refuse_overlaps()

    def _refuse_overlaps(self) -> None:
        end = self._reader.data_offset
        for tensor in sorted(self._reader.tensors, key=lambda tensor: tensor.data_offset):
            if tensor.data_offset < end:
                reason = f"tensor {tensor.name} begins inside what stands before it"
                raise SourceUnreadable(path=str(self.path), format=_FORMAT, reason=reason)
            end = tensor.data_offset + tensor.n_bytes

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, outermost first (GGUF writes it innermost first)."""
        return tuple(int(size) for size in reversed(self.tensors[name].shape))

    def dtype(self, name: str) -> str:
        """A tensor's storage type, as GGUF names it."""
        return str(self.tensors[name].tensor_type.name)


def _open_reader(path: Path) -> GGUFReader:
    try:
        return _BoundedReader(path)
    except OSError as error:
        raise CannotRead(path=str(path), reason=error.strerror or str(error)) from error
    except (
        _Defect,
        ValueError,
        KeyError,
        IndexError,
        OverflowError,
        TypeError,
        RecursionError,
        MemoryError,
    ) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> SourceUnreadable:
    reason = str(error.args[0] if error.args else type(error).__name__)
    return SourceUnreadable(path=str(path), format=_FORMAT, reason=reason.splitlines()[0].rstrip("."))


def _value(field: Any) -> Any:
    value = field.contents()
    # The format stores 32-bit floats. The number that was meant is the shortest decimal that rounds to the
    # same 32 bits: 1e-05, and not the 9.999999747378752e-06 that it becomes on the way to 64.
    return float(str(np.float32(value))) if field.types == [GGUFValueType.FLOAT32] else value
