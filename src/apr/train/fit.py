"""Whether a run fits the machine, asked before anything is allocated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from apr.arch.config import TransformerConfig
from apr.arch.counts import parameter_count
from apr.arch.inventory import inventory
from apr.base.environment import available_memory_bytes, free_disk_bytes, resident_bytes
from apr.train.device import Compute
from apr.train.errors import NotEnoughDisk, NotEnoughMemory
from apr.train.inputs import Inputs
from apr.train.memory import MemoryTerms, memory_terms
from apr.train.plan import RunPlan
from apr.train.run_state import KEPT_STATES
from apr.train.subset import subset_of

_PROCESS_BYTES = 330 << 20  # with torch, where the system does not say what a process holds
_KERNEL_BYTES = 26 << 20  # pages of the libraries' code that are read only when something is computed
_HEAD_BYTES = 8 << 20  # a checkpoint's metadata with its tokenizer, at most about so much


def run_memory(plan: RunPlan, compute: Compute, inputs: Inputs, files_before: int | None) -> MemoryTerms:
    """The memory of a run at its peak, with the process and the pages of its files.

    Args:
        files_before: bytes of files that the process held before the inputs were opened; None where not known.
    """
    held = resident_bytes()
    process = (
        _PROCESS_BYTES if held is None or files_before is None else held[0] + files_before + _KERNEL_BYTES
    )
    mapped = inputs.init.file.size_bytes if inputs.init else 0
    mapped += sum(shard.nbytes for data in (inputs.train, inputs.validation) for shard in data.shards)
    mapped += checkpoint_bytes(inputs.config)  # read back when it is saved
    return replace(_terms(plan, compute, inputs), process=process, mapped=mapped)


def _terms(plan: RunPlan, compute: Compute, inputs: Inputs) -> MemoryTerms:
    return memory_terms(plan, inputs.config, compute.dtype_name, num_packed=_num_packed(inputs))


def _num_packed(inputs: Inputs) -> int:
    if inputs.init is None:
        return 0
    entries = inputs.init.file.entries
    plain = ("F32", "F16", "BF16")
    return sum(s.num_elements for s in inventory(inputs.config) if entries[s.name].dtype not in plain)


def checkpoint_bytes(config: TransformerConfig) -> int:
    """The size of one checkpoint."""
    return 4 * parameter_count(config) + _HEAD_BYTES


def disk_bytes(plan: RunPlan, config: TransformerConfig) -> int:
    """What a run has on the disk at its fullest, in bytes: checkpoints, and the moments of the states that it keeps."""
    num_states = min(plan.num_epochs, KEPT_STATES + 1)  # the oldest goes when a newer one is whole
    moments = 8 * subset_of(plan, config).num_trainable
    return _num_checkpoints(plan) * checkpoint_bytes(config) + num_states * moments


def _num_checkpoints(plan: RunPlan) -> int:
    """Checkpoints at once: those of --keep, those that the kept states need, and the one being written."""
    all_of_them = max(1, plan.num_epochs)
    if plan.keep == "all":
        return all_of_them
    last, _, best = plan.keep.removeprefix("last:").partition(",")
    return min(all_of_them, max(int(last), KEPT_STATES) + bool(best) + 1)


def free_memory(compute: Compute) -> int | None:
    """Bytes that the device of a run can give; None where nothing says."""
    if compute.device.type == "cuda":
        return torch.cuda.mem_get_info(compute.device)[0]
    return available_memory_bytes()


def require_memory(plan: RunPlan, compute: Compute, inputs: Inputs) -> None:
    """Refuse a run on the CPU that needs more memory than there is, with all its processes on this machine.

    Raises:
        NotEnoughMemory.
    """
    if compute.device.type != "cpu":
        return
    here = compute.ranks.place.num_local_ranks
    needed, available = here * _terms(plan, compute, inputs).required, free_memory(compute)
    if available is not None and needed > available:
        raise NotEnoughMemory(needed_mb=needed >> 20, available_mb=available >> 20)


def require_disk(run_dir: Path, plan: RunPlan, config: TransformerConfig) -> None:
    """Refuse a run whose checkpoints would not all fit on the disk, as a plan must say.

    A run itself is not refused for it: it may stop early, and its checkpoints be taken elsewhere meanwhile.

    Raises:
        NotEnoughDisk.
    """
    needed, free = disk_bytes(plan, config), free_disk_bytes(run_dir)
    if free is not None and needed > free:
        raise NotEnoughDisk(path=str(run_dir), needed_mb=needed >> 20, available_mb=free >> 20)
