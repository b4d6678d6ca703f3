"""Which device and compute type a run uses; only `auto` may fall back, and it says so."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

import torch

from apr.base.environment import cpu_flags
from apr.train.errors import DeviceAbsent, DeviceUnknown
from apr.train.ranks import Ranks

DEVICE_PATTERN = re.compile(r"^(cpu|cuda(:[0-9]|:1[0-5])?|auto)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """Where, in what type and on how many processes a run computes."""

    device: torch.device
    dtype: torch.dtype
    ranks: Ranks = field(default_factory=Ranks)  # the processes that compute together
    note: str  # what `auto` decided and why; empty when nothing was left to choose

    @property
    def dtype_name(self) -> str:
        """`fp32` or `bf16`."""
        return "bf16" if self.dtype == torch.bfloat16 else "fp32"


def check_device_word(device: str) -> None:
    """Check the spelling of `--device`, before anything is allocated.

    Raises:
        DeviceUnknown: it is none of the words.
    """
    if not DEVICE_PATTERN.fullmatch(device):
        raise DeviceUnknown(device=device)


def resolve_compute(device: str, dtype: str, ranks: Ranks | None = None) -> Compute:
    """Turn `--device` and `--dtype` into what is there.

    Of several processes on a machine each takes a CUDA device of its own, the one of its number there.

    Raises:
        DeviceUnknown: the word is not one.
        DeviceAbsent: the named device is not in this machine, or cannot compute in bf16.
    """
    check_device_word(device)
    ranks = ranks or Ranks()
    notes = []
    chosen = device
    if device == "auto":
        chosen = "cuda" if torch.cuda.is_available() else "cpu"
        notes.append(f"device auto: {chosen}" + ("" if chosen == "cuda" else ", no CUDA device is there"))
    if chosen == "cuda" and ranks.num > 1:
        chosen = f"cuda:{ranks.place.local_rank}"
    if chosen.startswith("cuda"):
        _require_cuda(device, int(chosen.partition(":")[2] or 0))
    fast = _has_fast_bf16(chosen)
    kind = dtype
    if dtype == "auto":
        kind = "bf16" if fast else "fp32"
        notes.append(f"dtype auto: {kind}" + ("" if fast else ", the processor has no bf16 instructions"))
    if ranks.num > 1:
        notes.append(f"{ranks.num} processes share every step")
    return Compute(
        device=torch.device(chosen),
        ranks=replace(ranks, exchange=torch.device(chosen)),
        dtype=torch.bfloat16 if kind == "bf16" else torch.float32,
        note="; ".join(notes),
    )


def _require_cuda(asked: str, index: int) -> None:
    if not torch.cuda.is_available():
        raise DeviceAbsent(device=asked, reason="this machine or this build of torch has no CUDA")
    count = torch.cuda.device_count()
    if index >= count:
        raise DeviceAbsent(device=asked, reason=f"this machine has {count} CUDA devices")


def _has_fast_bf16(device: str) -> bool:
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported()
    return bool(cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"})
