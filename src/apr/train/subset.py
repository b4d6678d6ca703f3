"""Which tensors a run trains: all, all but those that `--freeze` names, or the adapters of `--lora` alone.

The plan says it in words and is hashed; here it becomes names, from the config and nothing else, before anything is
allocated. Module, optimizer, gates, saves and estimates all ask this one value.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor

from apr.arch.config import TransformerConfig
from apr.arch.inventory import EMBEDDING, HEAD, TensorSpec, inventory
from apr.arch.lora import Lora, adapter_specs, parse_lora, target_specs
from apr.model.decoder import Decoder
from apr.model.lora import attach
from apr.train.plan import RunPlan
from apr.train.spec import option_of
from apr.train.subset_errors import FreezeUnmatched, FreezeWithLora, LoraNeedsInit, NothingTrainable

_LAYER = re.compile(r"\.\d+\.")
_NUM_NEAREST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    """The tensors that a run trains, and those that it must leave as they are."""

    trainable: tuple[TensorSpec, ...]
    frozen: tuple[TensorSpec, ...]
    lora: Lora | None = None
    merged: frozenset[str] = frozenset()  # frozen; in a checkpoint others, since an adapter goes into them
    notes: tuple[str, ...] = ()  # what a user should hear

    @property
    def names(self) -> frozenset[str]:
        """Of what is trained."""
        return frozenset(spec.name for spec in self.trainable)

    @property
    def kept(self) -> frozenset[str]:
        """Of what every checkpoint must hold as the start had it."""
        return frozenset(spec.name for spec in self.frozen) - self.merged

    @property
    def is_whole(self) -> bool:
        """Whether everything is trained."""
        return not self.frozen

    @property
    def num_trainable(self) -> int:
        """Parameters that are trained."""
        return sum(spec.num_elements for spec in self.trainable)


def subset_of(plan: RunPlan, config: TransformerConfig) -> Subset:
    """Resolve what a plan trains of a model.

    Raises:
        FreezeUnmatched, NothingTrainable: of `--freeze`.
        FreezeWithLora, LoraNeedsInit: of `--lora`.
    """
    if not plan.lora:
        return _thawed(plan, config)
    source = plan.sources.get("lora", option_of("lora"))
    if plan.freeze:
        option = plan.sources.get("freeze", option_of("freeze"))
        raise FreezeWithLora(option=option, globs=", ".join(plan.freeze))
    if not plan.from_init:
        raise LoraNeedsInit(option=source, lora=plan.lora)
    lora, frozen = parse_lora(plan.lora, source), inventory(config)
    trainable = adapter_specs(config, lora)
    num_trained, num_frozen = (sum(spec.num_elements for spec in specs) for specs in (trainable, frozen))
    return Subset(
        trainable=trainable,
        frozen=frozen,
        lora=lora,
        merged=frozenset(spec.name for spec in target_specs(config, lora)),
        notes=(f"LoRA trains {num_trained:,} parameters beside {num_frozen:,} frozen ones",),
    )


def _thawed(plan: RunPlan, config: TransformerConfig) -> Subset:
    """All but what the globs name; a tied head is the embedding, by either name."""
    specs = inventory(config)
    names = [spec.name for spec in specs]
    if config.tie_word_embeddings:
        names.append(HEAD)
    option = plan.sources.get("freeze", option_of("freeze"))
    matched: set[str] = set()
    for glob in plan.freeze:
        found = {name for name in names if fnmatchcase(name, glob)}
        if not found:
            raise FreezeUnmatched(
                option=option, glob=glob, num_tensors=len(specs), nearest=", ".join(_nearest(glob, names))
            )
        matched |= found
    notes = _notes(matched, config)
    if HEAD in matched and config.tie_word_embeddings:
        matched.add(EMBEDDING)
    trainable = tuple(spec for spec in specs if spec.name not in matched)
    if not trainable:
        raise NothingTrainable(option=option, globs=", ".join(plan.freeze), num_tensors=len(specs))
    frozen = tuple(spec for spec in specs if spec.name in matched)
    return Subset(trainable=trainable, frozen=frozen, notes=notes)


def _notes(matched: set[str], config: TransformerConfig) -> tuple[str, ...]:
    both = {EMBEDDING, HEAD} & matched
    if len(both) != 1 or not config.tie_word_embeddings:
        return ()
    named = both.pop()
    other = HEAD if named == EMBEDDING else EMBEDDING
    return (f"{named} and {other} are one tensor in this model: both are frozen",)


def _nearest(glob: str, names: Sequence[str]) -> list[str]:
    """Names as one would write them in a glob, a star for the layer; most parts in common first."""
    asked = _LAYER.sub(".*.", glob)
    kinds = dict.fromkeys(_LAYER.sub(".*.", name) for name in names)

    def likeness(kind: str) -> tuple[int, float]:
        common = set(asked.split(".")) & set(kind.split("."))
        return len(common), difflib.SequenceMatcher(None, asked, kind).ratio()

    return sorted(kinds, key=likeness, reverse=True)[:_NUM_NEAREST]


def apply_subset(decoder: Decoder, subset: Subset, seed: int) -> None:
    """Make a module train what the subset says: adapters in their places, and no gradient for what is frozen."""
    if subset.lora is not None:
        attach(decoder, subset.lora, seed)
    frozen = {spec.name for spec in subset.frozen}
    for name, parameter in decoder.named_parameters():
        if (
            name in frozen
        ):  # and the others as they are: what somebody else froze must show, and not be mended here
            parameter.requires_grad_(False)


def trained_parameters(decoder: Decoder, subset: Subset) -> list[tuple[str, Tensor]]:
    """Names and parameters that the optimizer is to have."""
    names = subset.names
    return [(name, value) for name, value in decoder.named_parameters() if name in names]
