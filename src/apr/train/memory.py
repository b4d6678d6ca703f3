"""The memory of a run at its peak, term by term, from what the code allocates.

Some moments can be the peak, and the greatest is taken: the backward pass of a step, when it begins; the optimizer's
step, when every gradient is there; a save, which copies weights and moments when it is in the background; and step
zero's control, for a run without steps.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from apr.arch.config import TransformerConfig
from apr.arch.counts import parameter_count
from apr.arch.inventory import EMBEDDING, HEAD
from apr.arch.kept import kept_for_backward
from apr.arch.lora import target_specs
from apr.model.loss import CHUNK_LOGITS
from apr.train.plan import RunPlan
from apr.train.subset import Subset, subset_of

_PROBE_TOKENS = 384  # `apr.stepzero.probe`
_PROBE_BYTES = 20  # a logit of the probe: fp32, fp64, and the exponentials of its log-sum
# glibc keeps what is freed and cannot always use it again: 9 to 18 % of the rest in a 135M model (LOG.md).
_ALLOCATOR_SHARE = 0.13


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryTerms:
    """What is in memory at the peak, in bytes."""

    at: str  # which moment
    weights: int  # fp32, with adapters; two models in step zero's control
    gradients: int  # of what is trained, as the moments are
    moments: int
    activations: int  # kept for the backward pass, with the compute type's copy of the matrices
    logits: int  # a chunk of them, and the head's gradient
    mask: int = 0  # of documents: one value for a pair of tokens, shared by heads and layers
    original: int = 0  # weights that the rehearsal cannot read from the file again
    snapshot: int = 0  # for saving in the background
    allocator: int = 0  # freed and not usable again
    process: int = 0  # interpreter and libraries
    mapped: int = (
        0  # pages of checkpoint, shards and saved checkpoint; the system takes them back when it needs them
    )

    @property
    def live(self) -> int:
        """What the run itself asks for."""
        parts = ("weights", "gradients", "moments", "activations", "logits", "mask", "original", "snapshot")
        return sum(getattr(self, name) for name in parts)

    @property
    def required(self) -> int:
        """What must be free before the run begins: neither the process, which is there, nor pages of files."""
        return self.live + self.allocator

    @property
    def peak(self) -> int:
        """Resident memory at the peak, as the system counts it."""
        return self.required + self.process + self.mapped

    def to_dict(self) -> dict[str, Any]:
        """The terms with their sums."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**named, "required": self.required, "peak": self.peak}


def memory_terms(
    plan: RunPlan, config: TransformerConfig, dtype_name: str, *, num_packed: int = 0
) -> MemoryTerms:
    """Estimate the memory of a run on the CPU, without the process and without pages of files.

    Args:
        plan: resolved.
        config: of the model.
        dtype_name: `fp32` or `bf16`.
        num_packed: parameters that the checkpoint stores in blocks, which the rehearsal must copy.
    """
    subset = subset_of(plan, config)
    compute_bytes = 2 if dtype_name == "bf16" else 4
    # Step zero's control comes before the optimizer, and is the peak where little is trained.
    moments = _control(plan, config, compute_bytes)
    if plan.num_steps > 0:
        moments += (
            _backward(plan, config, compute_bytes, subset),
            _update(plan, config, subset),
            _rehearsal(config, num_packed if plan.from_init else parameter_count(config), subset),
            _saving(plan, config, subset),
        )
    greatest = max(moments, key=lambda terms: terms.live)
    return replace(greatest, allocator=int(_ALLOCATOR_SHARE * greatest.live))


def _backward(plan: RunPlan, config: TransformerConfig, compute_bytes: int, subset: Subset) -> MemoryTerms:
    """The backward pass begins: everything is kept, and from the second micro-batch on the gradients are there."""
    trained, tokens = 4 * subset.num_trainable, plan.batch_size * plan.seq_length
    trains_weights = None if subset.is_whole else subset.names
    kept = kept_for_backward(config, compute_bytes, trains_weights, subset.lora)
    head = config.vocab_size * config.hidden_size
    copies = kept.copies + (compute_bytes * head if compute_bytes < 4 else 0)
    return MemoryTerms(
        at="in the backward pass",
        weights=_weights(config, subset),
        gradients=trained if plan.grad_accum > 1 else 0,
        moments=2 * trained if plan.num_steps > 1 else 0,
        activations=tokens * kept.per_token + copies,
        logits=_logits(config, tokens, compute_bytes, trains_head=_trains_head(config, subset)),
        mask=_mask(plan, plan.batch_size, compute_bytes),
        snapshot=_snapshot(plan, config, subset) if plan.num_epochs > 1 else 0,  # of the epoch before
    )


def _update(plan: RunPlan, config: TransformerConfig, subset: Subset) -> MemoryTerms:
    """The optimizer steps: every gradient is there, and the embedding's was just added to the head's."""
    trained = 4 * subset.num_trainable
    return MemoryTerms(
        at="in the optimizer's step",
        weights=_weights(config, subset),
        gradients=trained,
        moments=2 * trained,
        activations=0,
        logits=4 * config.vocab_size * config.hidden_size * _trains_head(config, subset),
        snapshot=_snapshot(plan, config, subset) if plan.num_epochs > 1 else 0,
    )


def _rehearsal(config: TransformerConfig, num_original: int, subset: Subset) -> MemoryTerms:
    """Step zero makes an update on trial, beside the weights that it takes back."""
    trained = 4 * subset.num_trainable
    return MemoryTerms(
        at="in the rehearsed update",
        weights=_weights(config, subset),
        gradients=trained,
        moments=2 * trained,
        activations=0,
        logits=0,
        original=4 * num_original + _adapter_bytes(subset),
    )


def _saving(plan: RunPlan, config: TransformerConfig, subset: Subset) -> MemoryTerms:
    """A save begins: with the copy there, the probe is run for the checkpoint's own reference."""
    return MemoryTerms(
        at="in a save",
        weights=_weights(config, subset),
        gradients=0,
        moments=8 * subset.num_trainable,
        activations=0,
        logits=_probe(config),
        snapshot=_snapshot(plan, config, subset) or _merged(config, subset),
    )


def _weights(config: TransformerConfig, subset: Subset) -> int:
    return 4 * parameter_count(config) + _adapter_bytes(subset)


def _adapter_bytes(subset: Subset) -> int:
    return 4 * subset.num_trainable if subset.lora else 0


def _merged(config: TransformerConfig, subset: Subset) -> int:
    """Weights with their adapters in them, which a save makes however it is made."""
    return 4 * sum(spec.num_elements for spec in target_specs(config, subset.lora)) if subset.lora else 0


def _trains_head(config: TransformerConfig, subset: Subset) -> bool:
    return (EMBEDDING if config.tie_word_embeddings else HEAD) in subset.names


def _snapshot(plan: RunPlan, config: TransformerConfig, subset: Subset) -> int:
    """The copy of what is trained and its moments that a save in the background writes; one at a time."""
    if plan.save != "background":
        return 0
    return 12 * subset.num_trainable + _merged(config, subset)


def _control(plan: RunPlan, config: TransformerConfig, compute_bytes: int) -> tuple[MemoryTerms, ...]:
    """Step zero alone: the probe of one model, and an evaluation, row by row, with a random one beside it."""
    weights = 4 * parameter_count(config)
    none = {"gradients": 0, "moments": 0, "activations": 0}
    head = config.vocab_size * config.hidden_size * (compute_bytes if compute_bytes < 4 else 0)  # its copy
    logits = _logits(config, plan.seq_length, compute_bytes, trains_head=False) + head
    models = 2 if plan.from_init else 1  # from scratch the model itself is the random one
    return (
        MemoryTerms(at="in the probe", weights=weights, logits=_probe(config), **none),
        MemoryTerms(
            at="in the random-weights control",
            weights=models * weights,
            logits=logits,
            mask=_mask(plan, 1, compute_bytes),
            **none,
        ),
    )


def _mask(plan: RunPlan, rows: int, compute_bytes: int) -> int:
    """The document mask of so many rows: `apr.model.masks`."""
    return rows * plan.seq_length**2 * compute_bytes if plan.document_mask else 0


def _probe(config: TransformerConfig) -> int:
    return _PROBE_BYTES * config.vocab_size * min(_PROBE_TOKENS, config.sequence_limit[1])


def _logits(config: TransformerConfig, tokens: int, compute_bytes: int, *, trains_head: bool = True) -> int:
    """The loss at its peak: the head's gradient in fp32, and a chunk of logits or another one of its like."""
    chunk = min(tokens, max(1, CHUNK_LOGITS // config.vocab_size)) * config.vocab_size
    head = config.vocab_size * config.hidden_size * trains_head
    narrow = compute_bytes if compute_bytes < 4 else 0
    softmax = 8 * chunk  # logits and their log-softmax, fp32
    product = (4 + narrow) * chunk + compute_bytes * head
    scaled = (4 + narrow) * head
    return 4 * head + max(softmax, product, scaled)
