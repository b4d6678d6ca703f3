"""Faults of a run that trains a part of a model: the wrong part, adapters that are none, merges that are none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from apr.stepzero.faults.aprfiles import flip_bit
from apr.stepzero.faults.fault import Fault, Patch

FREEZE = {"freeze": ("model.layers.0.*",)}
FREEZE_EMBEDDING = {"freeze": ("model.embed_tokens.weight",)}
LORA = {"lora": "r=4"}
LORA_SLOW = {"lora": "r=4", "lr": 1e-6}  # so little that no save of the run would show it
LORA_MLP = {"lora": "r=4,targets=gate,up"}
_APPLY = "apr.train.certify:apply_subset"
_TRAINED = "apr.train.certify:trained_parameters"
_FROZEN = "model.layers.0.mlp.up_proj.weight"
_TRAINABLE = "model.layers.1.mlp.up_proj.weight"


def _fault(
    name: str,
    gate: str,
    says: str,
    options: Mapping[str, Any],
    target: str,
    wrap: Callable[[Any], Any],
    *imitates: str,
    **more: Any,
) -> Fault:
    return Fault(
        id=f"subset.{name}", imitates=imitates, place="subset", gate=gate, says=says, options=options,
        patches=(Patch(target=target, wrap=wrap),), **more,
    )  # fmt: skip


def _then(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Change the module when its subset has been applied."""

    def wrap(original: Any) -> Any:
        def apply(decoder: Any, *args: Any) -> None:
            original(decoder, *args)
            change(decoder)

        return apply

    return wrap


def _everything(original: Any) -> Any:
    """The optimizer gets the whole module, and the frozen part learns with it."""

    def trained(decoder: Any, subset: Any) -> Any:
        for parameter in decoder.parameters():
            parameter.requires_grad_(True)
        return list(decoder.named_parameters())

    return trained


def _thawed(decoder: Any) -> None:
    """A frozen tensor gets gradients: nothing updates it, but the global norm counts it."""
    decoder.get_parameter(_FROZEN).requires_grad_(True)


def _frozen_too(decoder: Any) -> None:
    decoder.get_parameter(_TRAINABLE).requires_grad_(False)


def _not_given(original: Any) -> Any:
    def trained(decoder: Any, subset: Any) -> Any:
        return [pair for pair in original(decoder, subset) if pair[0] != _TRAINABLE]

    return trained


def _written_later(original: Any) -> Any:
    """Something else than the optimizer writes to a frozen tensor, once training has begun."""

    def updates(decoder: Any, *args: Any, **kwargs: Any) -> Any:
        for update in original(decoder, *args, **kwargs):
            with torch.no_grad():
                decoder.get_parameter(_FROZEN).mul_(1.0 + 1e-6)
            yield update

    return updates


def _own_head(decoder: Any) -> None:
    """The head becomes a copy of the frozen embedding, and is trained."""
    weight = decoder.model.embed_tokens.weight.detach().clone()
    decoder.lm_head = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device=weight.device)
    decoder.lm_head.weight = nn.Parameter(weight)
    kind = type(decoder)
    decoder.__class__ = type(
        kind.__name__, (kind,), {"head_weight": property(lambda self: self.lm_head.weight)}
    )


@torch.no_grad()
def _drawn_b(decoder: Any) -> None:
    for name, value in decoder.named_parameters():
        if name.endswith(".adapter.b"):
            value.normal_(0.0, 1e-3)


@torch.no_grad()
def _other_seed(decoder: Any) -> None:
    """A comes from torch's own generator, so that no resume and no second process has it again."""
    for name, value in decoder.named_parameters():
        if name.endswith(".adapter.a"):
            value.normal_(0.0, 0.02)


def _without_adapters(original: Any) -> Any:
    def trained(decoder: Any, subset: Any) -> Any:
        return [pair for pair in original(decoder, subset) if not pair[0].endswith(".adapter.b")]

    return trained


def _exchanged(decoder: Any) -> None:
    """The adapters of gate and up changed places, and are named as they stand: equal shapes, so nothing else tells."""
    for layer in decoder.model.layers:
        first, second = layer.mlp.gate_proj, layer.mlp.up_proj
        first.adapter, second.adapter = second.adapter, first.adapter


def _reading_others(decoder: Any) -> None:
    """The projection that an adapter is named after is not the one whose output it is added to."""
    for layer in decoder.model.layers:
        gate, up = layer.mlp.gate_proj, layer.mlp.up_proj
        forward_gate, forward_up = gate.adapter.forward, up.adapter.forward
        gate.adapter.forward, up.adapter.forward = forward_up, forward_gate


def _elsewhere(original: Any) -> Any:
    """The adapters stand beside down instead of up."""

    def specs(config: Any, lora: Any) -> Any:
        return original(config, type(lora)(r=lora.r, alpha=lora.alpha, targets=("down",)))

    return specs


def _detached_a(original: Any) -> Any:
    """A never gets a gradient: at the first step it has none in a healthy run either."""

    def forward(self: Any, x: Tensor) -> Tensor:
        inner = torch.nn.functional.linear(x, self.a.to(x.dtype)).detach()
        return torch.nn.functional.linear(inner, self.b.to(x.dtype)) * self.scale

    return forward


def _unscaled(original: Any) -> Any:
    """The merge leaves alpha / r out."""
    return lambda weight, a, b, scale: original(weight, a, b, 1.0)


def _unscaled_later(original: Any) -> Any:
    """The saved merge is not the one that step zero saw."""

    def weights(decoder: Any) -> dict[str, Tensor]:
        found = original(decoder)
        return {
            name: decoder.get_parameter(name).detach() + 0.5 * (value - decoder.get_parameter(name).detach())
            for name, value in found.items()
        }

    return weights


def _unmerged(original: Any) -> Any:
    """No name of an adapter met a name of a weight, and the merge changed nothing."""
    return lambda decoder: {name: decoder.get_parameter(name).detach().clone() for name in original(decoder)}


def _adapter_bit(run_dir: Any) -> None:
    path = sorted(run_dir.glob("ckpt/*.adapter/adapter_model.safetensors"))[-1]
    flip_bit(path, path.stat().st_size - 9)


def _adapter_state_bit(run_dir: Any) -> None:
    path = sorted(run_dir.glob("state/*/adapters.safetensors"))[-1]
    flip_bit(path, path.stat().st_size - 9)


SUBSET_FAULTS: tuple[Fault, ...] = (
    _fault("frozen-trained", "optimizer.settings", "the optimizer was given the frozen tensors too", FREEZE, _TRAINED,
           _everything, "S-133", quick=True),
    _fault("frozen-thawed", "update.gradients", "a frozen tensor still got gradients, which the clipping counted", FREEZE,
           _APPLY, _then(_thawed), "S-63"),
    _fault("frozen-written", "checkpoint.saved", "a frozen tensor was written to while training", FREEZE,
           "apr.train.run:updates", _written_later, "S-133", quick=True),
    _fault("trainable-frozen", "update.gradients", "a tensor that was to be trained got no gradient", FREEZE, _APPLY,
           _then(_frozen_too), "S-43", quick=True),
    _fault("trainable-not-given", "optimizer.settings", "a tensor that was to be trained was not in the optimizer", FREEZE,
           _TRAINED, _not_given, "S-43"),
    _fault("head-alone", "model.built", "of a frozen tied pair the head alone was trained", FREEZE_EMBEDDING, _APPLY,
           _then(_own_head), "S-29", "S-66", quick=True, needs=lambda c: c.tie_word_embeddings),
    _fault("b-not-zero", "adapters.start", "the adapters' B was not zero at the start", LORA, _APPLY, _then(_drawn_b), "S-69",
           quick=True),
    _fault("a-unseeded", "adapters.start", "the adapters' A did not come from the run's seed", LORA, _APPLY, _then(_other_seed),
           "S-68"),
    _fault("not-optimized", "optimizer.settings", "the adapters' B was not in the optimizer", LORA, _TRAINED,
           _without_adapters, "S-43"),
    _fault("other-projection", "adapters.start", "the adapters stood beside another projection", LORA_MLP,
           "apr.model.lora:target_specs", _elsewhere, "S-69"),
    _fault("adapters-exchanged", "adapters.start", "the adapters of two projections had changed places", LORA_MLP, _APPLY,
           _then(_exchanged), "S-49"),
    _fault("reads-other", "adapters.merge", "each adapter computed another one's part", LORA_MLP, _APPLY,
           _then(_reading_others), "S-49", quick=True),
    _fault("dead-a", "update.gradients", "the adapters' A never got a gradient", LORA, "apr.model.lora:Adapter.forward",
           _detached_a, "S-49", "S-43", quick=True),
    _fault("merge-scale", "adapters.merge", "the merge left alpha out", LORA_SLOW, "apr.model.lora:merged", _unscaled, "S-69",
           quick=True),
    _fault("merge-scale-at-save", "checkpoint.saved", "the saved merge had half of the adapters' strength", LORA,
           "apr.train.merge:merged_weights", _unscaled_later, "S-69"),
    _fault("merge-of-nothing", "checkpoint.saved", "the saved merge changed nothing", LORA,
           "apr.train.merge:merged_weights", _unmerged, "S-69"),
    Fault(id="subset.adapter-bit", imitates=("S-127",), place="checkpoint", gate="checkpoint.record", options=LORA,
          says="a bit of the adapter beside a checkpoint was flipped", edit=_adapter_bit),
    Fault(id="subset.adapter-state-bit", imitates=("S-84",), place="checkpoint", gate="checkpoint.record", options=LORA,
          says="a bit of a state's adapters was flipped", edit=_adapter_state_bit),
)  # fmt: skip
