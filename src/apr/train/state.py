"""What a run needs to go on: one folder a saved step, whole or not there.

A state names its weights (the epoch's checkpoint, or its own copy between two epochs) and holds moments, cursor,
generator and books. It is written under another name and renamed when every file of it is on the disk and has been
read again, so that a kill at any moment leaves the state before it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from apr.base.errors import CannotWrite
from apr.base.files import fsync, replacing, sha256_file, write_json
from apr.train.errors import CheckpointDiffers, StateBad
from apr.train.run_state import ADAPTERS, OPTIMIZER, PROGRESS, UNFINISHED, WEIGHTS, RunState, state_name


def moment_tensors(
    named_parameters: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """The optimizer's state by `parameter.key`, as views."""
    return {
        f"{name}.{key}": value.detach()
        for name, parameter in named_parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def write_optimizer(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write moments and step counts, or adapters, and compare what can be read again with what is in memory.

    Returns:
        SHA-256 of the file.

    Raises:
        CannotWrite: the disk refused.
        CheckpointDiffers: a tensor read back is another (INV-TRAIN-013).
    """
    with replacing(path) as stream:
        # By name and not through bytes: the moments of a 0.5B model are 4 GB.
        try:
            save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, stream.name)
        except SafetensorError as error:  # not an OSError, though it is the disk's refusal
            # "Error while serializing: I/O error: No space left ...": only the end is the system's word
            raise CannotWrite(path=str(path), reason=str(error).rpartition(": ")[2]) from error
    with safe_open(path, "pt") as file:
        for name, value in tensors.items():
            if not torch.equal(file.get_tensor(name), value.cpu()):
                raise CheckpointDiffers(path=str(path), tensor=name)
    return sha256_file(path)


def load_optimizer(
    path: Path, named_parameters: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> None:
    """Put saved moments and step counts into a fresh optimizer.

    Args:
        path: the file that `write_optimizer` made.
        named_parameters: every parameter of the module, by name, each storage once.
        optimizer: over the same parameters.

    Raises:
        StateBad: the file holds other tensors than these parameters need.
    """
    step = int(path.parent.name.rpartition("-")[2])
    try:
        with safe_open(path, "pt") as file:
            found: dict[str, dict[str, Tensor]] = {}
            for key in file.keys():  # noqa: SIM118 - not a dict
                name, _, part = key.rpartition(".")
                found.setdefault(name, {})[part] = file.get_tensor(key)
    except (OSError, SafetensorError) as error:
        raise StateBad(path=str(path), step=step, reason=str(error)) from error
    for name, parameter in named_parameters.items():
        parts = found.pop(name, {})
        if set(parts) != {"step", "exp_avg", "exp_avg_sq"} or parts["exp_avg"].shape != parameter.shape:
            raise StateBad(path=str(path), step=step, reason=f"it does not hold the moments of {name}")
        optimizer.state[parameter] = {
            key: value if key == "step" else value.to(parameter.device) for key, value in parts.items()
        }
    if found:
        raise StateBad(
            path=str(path), step=step, reason=f"it holds moments of {min(found)}, which is no parameter"
        )


def write_state(
    run_dir: Path,
    state: RunState,
    moments: Mapping[str, Tensor],
    write_weights: Callable[[Path], str] | None = None,
    before_commit: Callable[[RunState], None] | None = None,
    adapters: Mapping[str, Tensor] | None = None,
) -> RunState:
    """Write a state's folder whole or not at all.

    Args:
        run_dir: of the run.
        state: all but the optimizer's digest; its weights are there already, unless `write_weights` is given.
        moments: see `moment_tensors`.
        write_weights: writes a copy of the weights into the state itself and returns its digest, where the step ends
            no epoch.
        before_commit: called with the finished state, before it gets its name and with it its validity.
        adapters: those of a LoRA run, named as in their file.

    Returns:
        The state with the digests of what was written.

    Raises:
        CannotWrite, CheckpointDiffers.
    """
    final = run_dir / state_name(state.step)
    folder = final.parent / f"{UNFINISHED}{final.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if write_weights is not None:
            digest = write_weights(folder / WEIGHTS)
            state = replace(state, weights=f"{state_name(state.step)}/{WEIGHTS}", weights_digest=digest)
        if adapters:
            state = replace(state, adapters_sha=write_optimizer(folder / ADAPTERS, adapters))
        state = replace(state, optimizer_state_sha=write_optimizer(folder / OPTIMIZER, moments))
        write_json(folder / PROGRESS, state.to_dict())
        if before_commit is not None:
            before_commit(state)
        if final.exists():  # the same step again, after a resume from an earlier one
            shutil.rmtree(final)
        folder.rename(final)
        fsync(final.parent)
    except OSError as error:
        raise CannotWrite(path=str(final), reason=error.strerror or str(error)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return state
