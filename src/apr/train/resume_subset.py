"""Going on with a run that trains a part of a model: the adapters of its state, and what it left as it was."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from apr.aprfile.reader import open_apr
from apr.base.errors import AprError
from apr.base.files import sha256_file
from apr.model.decoder import Decoder
from apr.model.lora import adapter_parameters, from_peft, merged_weights
from apr.stepzero.gate import GateResult, verdict_of
from apr.stepzero.registry import BY_ID
from apr.train.errors import StateBad
from apr.train.run_state import ADAPTERS, RunState, state_name
from apr.train.subset import Subset

_ONE_ULP = 2.0**-23  # relative: a product in fp64 may be rounded to the neighbour on another machine


def read_adapters(path: Path, step: int) -> dict[str, Tensor]:
    """Read adapters by our names from a file that has PEFT's.

    Raises:
        StateBad: it is missing, damaged, or holds something else.
    """
    try:
        with safe_open(path, "pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as error:
        raise StateBad(path=str(path), step=step, reason=str(error)) from error
    named = {from_peft(name): value for name, value in found.items()}
    if None in named:
        raise StateBad(path=str(path), step=step, reason="it holds something else than adapters")
    return {str(name): value for name, value in named.items()}


def subset_gate(
    run_dir: Path,
    state: RunState,
    decoder: Decoder,
    subset: Subset,
    now: Mapping[str, str],
    start: Mapping[str, Any],
) -> GateResult:
    """Load the adapters of a state, and judge them with what was to stay as it was.

    Args:
        run_dir: of the run.
        state: that is gone on from.
        decoder: of the run; its adapters are filled.
        subset: what the run trains.
        now: digests of frozen tensors and drawn adapters, by role.
        start: the same, as the certificate of the run's start has them among its inputs.

    Raises:
        StateBad: the adapters cannot be read.
    """
    wrong = [name for name in ("frozen", "adapters") if now.get(name) != start.get(name)]
    cause = f"the {wrong[0]} tensors are not those of the run's start" if wrong else ""
    if not cause and subset.lora is not None:
        cause = _load(run_dir, state, decoder)
    return GateResult(
        id="resume.subset",
        claim=BY_ID["resume.subset"].asks,
        verdict=verdict_of(not cause),
        figure=len(wrong) + bool(cause and not wrong),
        limit=0,
        cause=cause,
        facts={"num_trainable": len(subset.trainable), "num_frozen": len(subset.frozen)},
    )


def _load(run_dir: Path, state: RunState, decoder: Decoder) -> str:
    """Fill the adapters; returns what is wrong with them, empty where nothing is."""
    path = run_dir / state_name(state.step) / ADAPTERS
    if not path.is_file():
        raise StateBad(path=str(path), step=state.step, reason="it is missing")
    if (sha := sha256_file(path)) != state.adapters_sha:
        return f"the adapters have sha256 {sha[:12]}, and {state.adapters_sha[:12]} was saved"
    found, wanted = read_adapters(path, state.step), adapter_parameters(decoder)
    if {n: v.shape for n, v in found.items()} != {n: v.shape for n, v in wanted.items()}:
        return "the saved adapters are not those of the plan"
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(found[name])
    return _against_checkpoint(run_dir / state.weights, merged_weights(decoder), state.weights_digest)


def _against_checkpoint(path: Path, weights: Mapping[str, Tensor], digest: str) -> str:
    """Base and adapters merged are what the state's checkpoint holds."""
    try:
        with open_apr(path, "full") as file:  # a bit of one weight is within what merges may differ by
            if file.file_digest != digest:
                return f"{path.name} has the digest {file.file_digest[:12]}, and {digest[:12]} was saved"
            wrong = [name for name, value in weights.items() if not same_merge(value, file.array(name))]
    except AprError as error:
        return f"{path.name} cannot be compared: {error.message}"
    return f"{wrong[0]} of {path.name} is not the merge of base and adapters" if wrong else ""


def same_merge(value: Tensor, stored: np.ndarray) -> bool:
    """Whether a merged weight is the stored one, but for the last bit of an element."""
    again = value.cpu().numpy()
    return bool(np.all(np.abs(again - stored) <= _ONE_ULP * np.abs(stored)))
