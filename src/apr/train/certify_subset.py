"""What step zero asks of a run that trains a part of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from apr.base.files import canonical_json, sha256_bytes
from apr.model.decoder import Decoder
from apr.model.lora import adapter_parameters, base_parameters, drawn_a, merged_weights, rehearsed_start
from apr.stepzero.gate import GateResult, verdict_of
from apr.stepzero.memory import memory_digests, tensor_digest
from apr.stepzero.registry import BY_ID
from apr.train.merge import prove_merge
from apr.train.subset import Subset
from apr.train.subset_errors import FrozenChanged


def frozen_digests(decoder: Decoder, subset: Subset) -> dict[str, str]:
    """Hash what a run must leave as it is, as fp32, by name."""
    frozen = {spec.name for spec in subset.frozen}
    return memory_digests({n: p for n, p in base_parameters(decoder).items() if n in frozen}, {})


def kept_digest(subset: Subset, digests: Mapping[str, str]) -> str:
    """One digest of the tensors that every checkpoint of the run must still hold.

    Args:
        subset: what the run trains.
        digests: sha256 of each tensor's fp32 values, by name.
    """
    return sha256_bytes(canonical_json({name: digests.get(name) for name in sorted(subset.kept)}))


def require_frozen(expected: Mapping[str, str], parameters: Mapping[str, Tensor], step: int) -> None:
    """Refuse to save what was not to change and did.

    Args:
        expected: sha256 by name, see `frozen_digests`.
        parameters: by name, as they are now.
        step: after which this is asked.

    Raises:
        FrozenChanged.
    """
    found = memory_digests({name: parameters[name] for name in expected}, {})
    changed = next((name for name in expected if found[name] != expected[name]), None)
    if changed is not None:
        raise FrozenChanged(tensor=changed, step=step)


def drawn_digests(subset: Subset, seed: int) -> dict[str, str]:
    """What every tensor of the adapters must hash to before step 1: A as drawn, B zero."""
    return {
        spec.name: tensor_digest(
            torch.zeros(spec.shape) if spec.name.endswith(".b") else drawn_a(spec.name, spec.shape, seed)
        )
        for spec in subset.trainable
    }


def adapter_digests(decoder: Decoder) -> dict[str, str]:
    """Hash what the adapters hold now, by name."""
    return memory_digests(adapter_parameters(decoder), {})


def adapters_gate(found: Mapping[str, str], expected: Mapping[str, str], num_parameters: int) -> GateResult:
    """Every planned projection has an adapter, no other has one, and each is at its start.

    Args:
        found: see `adapter_digests`.
        expected: see `drawn_digests`.
        num_parameters: of all adapters, by the plan.
    """
    absent = sorted(expected.keys() - found.keys())
    spare = sorted(found.keys() - expected.keys())
    differing = [name for name in sorted(expected.keys() & found.keys()) if found[name] != expected[name]]
    cause = ""
    if absent:
        cause = f"the plan needs {absent[0]}, and the module has no such tensor"
    elif spare:
        cause = f"the module has {spare[0]}, and the plan names no such adapter"
    elif differing:
        told = "zero" if differing[0].endswith(".b") else "what the run's seed gives"
        cause = f"{differing[0]} is not {told}, so the model is not the checkpoint's, or cannot be made again"
    return GateResult(
        id="adapters.start",
        claim=BY_ID["adapters.start"].asks,
        verdict=verdict_of(not cause),
        figure=len(expected) - len(absent) - len(differing),
        limit=len(expected),
        cause=cause,
        facts={"num_parameters": num_parameters},
    )


def merge_gate(decoder: Decoder, ids: Sequence[int], seed: int) -> GateResult:
    """Merging works, asked of adapters that are not zero: before the first step, and not at the first save."""
    with rehearsed_start(decoder, seed):
        proof = prove_merge(decoder, merged_weights(decoder), ids)
    return GateResult(
        id="adapters.merge",
        claim=BY_ID["adapters.merge"].asks,
        verdict=verdict_of(not proof.defect),
        figure=proof.gap,
        limit=proof.limit,
        cause=proof.defect,
        facts={**proof.to_dict(), "unit": "of a row's standard deviation"},
    )
