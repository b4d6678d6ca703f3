"""What is odd about the values of a checkpoint: matrices of zeros, of one number, or there twice.

A well-formed file may hold them by right (layers are copied to make a model deeper), so they are told and
recorded, not refused; a run refuses those that nobody accepted. Each tensor is looked at while it is read for
the reference. A few values from all over tell nearly every tensor from a constant and from every other; only
where they do not is the whole of it compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from apr.base.files import sha256_bytes
from apr.convert.checkpoint import Progress
from apr.convert.rounding import extremes, widen
from apr.convert.storage import PlannedTensor

Rule = Literal["zero", "constant", "duplicated"]
_NUM_GLANCED = 4096  # values of a tensor, from all over
_FLOATS = ("F32", "F16", "BF16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A rule, the tensor that it speaks of, and one sentence. A tensor has one finding at most."""

    rule: Rule
    tensor: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """The one value of all, where there is one, and a digest that equal tensors share."""

    constant: float | None
    glance: str


class Inspection:
    """Looks at every tensor of a plan once, whoever reads it first."""

    def __init__(self, plan: Mapping[str, PlannedTensor]) -> None:
        self._plan = plan
        self._looks: dict[str, _Look] = {}

    def look(self, name: str, values: np.ndarray) -> None:
        """Look at a tensor's values, as they will be stored, widened to float32."""
        sample = _glance(values)
        constant = None
        if _is_constant(sample):
            low, high = extremes(values)
            constant = low if low == high else None
        self._looks[name] = _Look(constant=constant, glance=_digest(sample))

    def findings(self, report: Progress) -> tuple[Finding, ...]:
        """Judge every tensor, in forward order; those that nobody has read are read now.

        Raises:
            TensorNotFinite, DtypeOverflows: a tensor cannot be stored as planned.
        """
        unseen = [name for name in self._plan if name not in self._looks]
        for done, name in enumerate(unseen):
            report("looking at the tensors", done, len(unseen))
            self._look_where_it_lies(name)
        twins = self._twins()
        judged = (_judge(name, self._plan[name], self._looks[name], twins.get(name)) for name in self._plan)
        return tuple(finding for finding in judged if finding is not None)

    def _look_where_it_lies(self, name: str) -> None:
        """Look at a tensor that no reference has read: floats that are kept need a few pages, not the file."""
        planned = self._plan[name]
        if planned.dtype == planned.tensor.dtype and planned.dtype in _FLOATS and planned.tensor.raw:
            dtype, stored = planned.tensor.raw()
            sample = widen(_glance(stored), dtype)
            if not _is_constant(sample):
                self._looks[name] = _Look(constant=None, glance=_digest(sample))
                return
        self.look(name, planned.values())

    def _twins(self) -> dict[str, str]:
        """Each matrix that repeats an earlier one, and that one."""
        alike: defaultdict[tuple[tuple[int, ...], str], list[str]] = defaultdict(list)
        for name, planned in self._plan.items():
            if len(planned.tensor.shape) == 2:
                alike[planned.tensor.shape, self._looks[name].glance].append(name)
        twins: dict[str, str] = {}
        for names in alike.values():
            first: dict[str, str] = {}
            for name in names if len(names) > 1 else ():
                earlier = first.setdefault(_digest(self._plan[name].values()), name)
                twins |= {name: earlier} if earlier != name else {}
        return twins


def _judge(name: str, planned: PlannedTensor, look: _Look, twin: str | None) -> Finding | None:
    is_matrix = len(planned.tensor.shape) == 2
    # A bias of zeros adds nothing, and many models are published so; a norm of zeros stops everything.
    if look.constant == 0 and not name.endswith(".bias"):
        return Finding(rule="zero", tensor=name, message=f"every value of {name} is 0")
    if look.constant is not None and is_matrix:
        return Finding(rule="constant", tensor=name, message=f"every value of {name} is {look.constant:.6g}")
    if twin is not None:
        return Finding(rule="duplicated", tensor=name, message=f"{name} has the same values as {twin}")
    return None


def _glance(values: np.ndarray) -> np.ndarray:
    flat = values.reshape(-1)
    # An odd step: an even one would meet the same few columns of every row.
    return flat[:: max(1, flat.size // _NUM_GLANCED) | 1]


def _is_constant(sample: np.ndarray) -> bool:
    low, high = extremes(sample)
    return low == high


def _digest(values: np.ndarray) -> str:
    return sha256_bytes(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
