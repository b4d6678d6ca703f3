"""How each tensor of a source will be stored, and what its values are once it is.

`keep` loses nothing: 16-bit floats, F32, Q4_K and Q6_K stay the bytes they are, and every other quantisation
becomes F32, because the numbers that its blocks stand for are exact in fp32 and in nothing shorter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from apr.convert.checkpoint import CheckpointSource, SourceTensor
from apr.convert.errors import TensorNotFinite
from apr.convert.rounding import extremes, round_to, widen

DtypeRequest = Literal["keep", "f32", "bf16", "f16"]
_FLOATS = ("F32", "F16", "BF16")
_BLOCK = {
    "Q4_K": 256,
    "Q6_K": 256,
}  # values in a block; a row must be whole blocks, or readers disagree on it


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTensor:
    """A tensor, and the dtype that the file will hold it in."""

    tensor: SourceTensor
    dtype: str
    location: str

    def stored(self) -> np.ndarray:
        """The array that the file will hold: float32, float16, uint16 for BF16, uint8 for blocks.

        Raises:
            TensorNotFinite: a value is NaN or infinite.
            DtypeOverflows: a value is beyond the dtype's range.
        """
        if self.dtype == self.tensor.dtype and self.tensor.raw is not None:
            dtype, values = self.tensor.raw()
            self._require_finite(widen(values, dtype) if dtype in _FLOATS else self.tensor.load())
            return values
        return round_to(self._source_values(), self.dtype, self.tensor.name)

    def values(self) -> np.ndarray:
        """What a reader will make of it: float32, writable, in the tensor's shape.

        Raises:
            TensorNotFinite, DtypeOverflows: as `stored`.
        """
        values = self._source_values()
        if self.dtype in (self.tensor.dtype, "F32"):
            return values
        return np.array(widen(round_to(values, self.dtype, self.tensor.name), self.dtype), dtype=np.float32)

    def _source_values(self) -> np.ndarray:
        values = self.tensor.load()
        self._require_finite(values)
        return values

    def _require_finite(self, values: np.ndarray) -> None:
        # The two ends tell without an array of flags; the values are counted only where something is wrong.
        if not np.isfinite(extremes(values)).all():
            count = int(values.size - np.count_nonzero(np.isfinite(values)))
            raise TensorNotFinite(source=self.location, tensor=self.tensor.name, count=count)


class StoredValues(Mapping[str, np.ndarray]):
    """The values of every tensor as they will be stored, each computed when it is asked for.

    A mapping and not a dict: the reference reads one tensor after the other, and a dict of them would be the
    whole model in fp32 a second time. `on_read` sees every tensor that is read, so that whoever else wants to
    judge the values needs no pass of its own.
    """

    def __init__(
        self, tensors: Mapping[str, PlannedTensor], on_read: Callable[[str, np.ndarray], None]
    ) -> None:
        self._tensors = tensors
        self._on_read = on_read

    def __getitem__(self, name: str) -> np.ndarray:
        """Compute a tensor's values: float32, its own array."""
        values = self._tensors[name].values()
        self._on_read(name, values)
        return values

    def __iter__(self) -> Iterator[str]:
        """The names, in forward order."""
        return iter(self._tensors)

    def __len__(self) -> int:
        """How many tensors there are."""
        return len(self._tensors)


def plan_storage(source: CheckpointSource, request: DtypeRequest) -> dict[str, PlannedTensor]:
    """Decide the stored dtype of every tensor of a source."""
    return {
        name: PlannedTensor(tensor=tensor, dtype=_choose(tensor, request), location=source.location)
        for name, tensor in source.tensors.items()
    }


def _choose(tensor: SourceTensor, request: DtypeRequest) -> str:
    if request != "keep":
        return request.upper()
    if tensor.raw is None:
        return "F32"
    block = _BLOCK.get(tensor.dtype)
    return tensor.dtype if block is None or tensor.shape[-1] % block == 0 else "F32"
