"""The weights of a checkpoint of a LoRA run: base and adapters merged, with the proof that they compute the same.

Three forward passes over a part of the probe, in fp32: with adapters, with the base alone, with the merged weights. The
merge must not be seen in the logits, though the adapters can; a merge that does nothing, or with another strength, or
of another projection, is as far from the adapters as they are from the base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from apr.arch.lora import PROJECTIONS, Lora
from apr.base.files import write_json
from apr.model.decoder import Decoder
from apr.model.lora import adapter_parameters, base_parameters, merged_weights, replaced
from apr.train.state import write_optimizer
from apr.train.subset_errors import MergeDiffers

# Of the logits' spread, and as much again for each spread that the adapters move them by, as their rounding grows.
MERGE_TOLERANCE = 2e-4  # LOG.md: "How far are merged weights from base and adapters"
_SEEN = 10  # times the tolerance: what the adapters must change before their strength can be judged
_PROOF_TOKENS = 64
_ROWS = 16  # of logits at a time
ADAPTER_WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeProof:
    """What a merge was seen to do."""

    num_merged: int  # weights that have an adapter
    num_changed: int  # of them, those that the merge changed
    num_active: int  # of them, those whose adapter is not zero
    effect: float  # of the adapters on the logits, as the share of a row's standard deviation
    gap: float  # between the logits of adapters and of merged weights, likewise

    @property
    def limit(self) -> float:
        """What the gap may be."""
        return MERGE_TOLERANCE * max(1.0, self.effect)

    @property
    def defect(self) -> str:
        """What is wrong, in a clause; empty where nothing is."""
        if self.num_changed != self.num_active:
            return f"{self.num_changed} weights changed, and {self.num_active} adapters are not zero"
        if not self.gap <= self.limit:
            return (
                f"merged logits differ from the adapters' by {self.gap:.3g} of their spread, "
                f"above {self.limit:.3g}"
            )
        if self.effect > _SEEN * MERGE_TOLERANCE and not self.gap <= self.effect / _SEEN:
            return (
                f"merged logits differ by {self.gap:.3g} where the adapters change them by {self.effect:.3g}"
            )
        return ""

    def to_dict(self) -> dict[str, Any]:
        """JSON values, with the limit."""
        return {**{name: getattr(self, name) for name in self.__slots__}, "limit": self.limit}


def prove_merge(decoder: Decoder, weights: Mapping[str, Tensor], ids: Sequence[int]) -> MergeProof:
    """Compare a decoder with adapters, without them, and with merged weights in their place.

    Args:
        decoder: with adapters; it is as before afterwards.
        weights: merged, by name.
        ids: of a text, of which the first are used.
    """
    adapters, base = adapter_parameters(decoder), base_parameters(decoder)
    ids_BT = torch.tensor([list(ids[:_PROOF_TOKENS])], device=decoder.head_weight.device)
    with torch.no_grad():
        adapted = decoder.hidden(ids_BT)[0]
        with replaced(decoder, {}):
            plain = decoder.hidden(ids_BT)[0]
        with replaced(decoder, weights):
            merged = decoder.hidden(ids_BT)[0]
    return MergeProof(
        num_merged=len(weights),
        num_changed=sum(not torch.equal(value, base[name]) for name, value in weights.items()),
        num_active=sum(name.endswith(".b") and bool(value.any()) for name, value in adapters.items()),
        effect=_distance(decoder, adapted, plain),
        gap=_distance(decoder, adapted, merged),
    )


@torch.no_grad()
def _distance(decoder: Decoder, first_TD: Tensor, second_TD: Tensor) -> float:
    """The greatest difference of two sets of logits, as a share of a row's standard deviation."""
    worst = 0.0
    for start in range(0, len(first_TD), _ROWS):
        one, other = (
            F.linear(rows[start : start + _ROWS], decoder.head_weight) for rows in (first_TD, second_TD)
        )
        gap = float(((one - other).abs().amax(dim=-1) / one.std(dim=-1)).max())
        worst = max(worst, gap) if gap == gap else float("inf")
    return worst


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """Merged weights, and what is said of them beside the checkpoint."""

    lora: Lora
    weights: dict[str, Tensor]
    proof: MergeProof


def merge_for_saving(decoder: Decoder, lora: Lora, ids: Sequence[int], step: int) -> Merge:
    """Merge the adapters of a decoder and prove it.

    Raises:
        MergeDiffers: the merged weights do not compute the same.
    """
    weights = merged_weights(decoder)
    proof = prove_merge(decoder, weights, ids)
    if proof.defect:
        raise MergeDiffers(step=step, defect=proof.defect)
    return Merge(lora=lora, weights=weights, proof=proof)


def write_adapter(folder: Path, adapters: Mapping[str, Tensor], lora: Lora) -> str:
    """Write adapters as PEFT does, beside the merged checkpoint; returns the sha256 of their weights.

    Args:
        folder: to write to.
        adapters: named as PEFT names them.
        lora: what they are.

    Raises:
        CannotWrite, CheckpointDiffers: see `apr.train.state.write_optimizer`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sha256 = write_optimizer(folder / ADAPTER_WEIGHTS, adapters)
    write_json(folder / ADAPTER_CONFIG, adapter_config(lora))
    return sha256


def adapter_config(lora: Lora) -> dict[str, Any]:
    """What adapter_config.json says; PEFT has defaults for the rest."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "r": lora.r,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": [PROJECTIONS[name].rpartition(".")[2] for name in lora.targets],
        "inference_mode": True,
    }
