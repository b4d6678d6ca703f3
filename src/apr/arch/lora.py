"""LoRA as values: which projections get an adapter, of what rank, how strong, and what tensors that makes.

y = W x + (alpha / r) B A x (Hu et al. 2021, arXiv:2106.09685), A of shape [r, in] and B of shape [out, r].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from apr.arch.config import TransformerConfig
from apr.arch.errors import LoraUnsupported
from apr.arch.inventory import TensorSpec, inventory
from apr.base.errors import BadOption

# Projections that can have an adapter, by the letter or word of `targets=`.
PROJECTIONS = {
    **{letter: f"self_attn.{letter}_proj" for letter in "qkvo"},
    **{word: f"mlp.{word}_proj" for word in ("gate", "up", "down")},
}
DEFAULT_TARGETS = ("q", "k", "v", "o")
ADAPTER = ".adapter."  # stands in the name of every tensor of an adapter, and of no other
LIMIT = "such as r=16,alpha=32,targets=q,k,v,o"
_MAX_RANK = 65536
_UNSUPPORTED = {
    "dropout": "two runs of one seed would differ, and so would a resumed one",
    "embed": "an adapter there would part a tied head from its embedding",
    "head": "an adapter there would part a tied head from its embedding",
    "lm_head": "an adapter there would part a tied head from its embedding",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """What `--lora` asks for."""

    r: int
    alpha: float
    targets: tuple[str, ...]  # keys of PROJECTIONS, in their order

    @property
    def scale(self) -> float:
        """What B A x is multiplied by."""
        return self.alpha / self.r

    def __str__(self) -> str:
        """The option, spelled out."""
        return f"r={self.r},alpha={self.alpha:g},targets={','.join(self.targets)}"


def parse_lora(text: str, option: str = "--lora") -> Lora:
    """Read `r=16,alpha=32,targets=q,k,v,o`; alpha is 2 r and the targets are q, k, v, o where they are left out.

    Raises:
        BadOption: it is none, or a value is out of range.
        LoraUnsupported: it asks for dropout, or for an adapter on embedding or head.
    """
    values = _split(text, option)
    targets = values.pop("targets", list(DEFAULT_TARGETS))
    for name in (*values, *targets):
        if name in _UNSUPPORTED:
            raise LoraUnsupported(option=option, part=name, reason=_UNSUPPORTED[name])
    unknown = [*sorted(values.keys() - {"r", "alpha"}), *(t for t in targets if t not in PROJECTIONS)]
    numbers = {key: _number(words) for key, words in values.items()}
    r = numbers.get("r", 0.0)
    alpha = numbers.get("alpha", 2 * r)
    ranged = r == int(r) and 1 <= r <= _MAX_RANK and 0 < alpha < math.inf
    if unknown or not targets or not ranged:
        raise BadOption(option=option, value=text, limit=LIMIT)
    return Lora(r=int(r), alpha=alpha, targets=tuple(name for name in PROJECTIONS if name in targets))


def _split(text: str, option: str) -> dict[str, list[str]]:
    """Values by key; a word without `=` goes on with the list before it."""
    found: dict[str, list[str]] = {}
    key = ""
    for part in (part.strip() for part in text.split(",")):
        name, sign, value = (piece.strip() for piece in part.partition("="))
        if sign and name not in found:
            key, found[name] = name, [value]
        elif not sign and key == "targets":
            found[key].append(name)
        else:
            raise BadOption(option=option, value=text, limit=LIMIT)
    return found


def _number(words: list[str]) -> float:
    try:
        value = float(words[0])
    except ValueError:
        return 0.0
    return value if math.isfinite(value) else 0.0


def target_specs(config: TransformerConfig, lora: Lora) -> tuple[TensorSpec, ...]:
    """The weights that get an adapter, in forward order."""
    endings = tuple(f".{PROJECTIONS[name]}.weight" for name in lora.targets)
    return tuple(spec for spec in inventory(config) if spec.name.endswith(endings))


def adapter_specs(config: TransformerConfig, lora: Lora) -> tuple[TensorSpec, ...]:
    """The tensors of all adapters, named after the weights that they stand beside."""
    specs = []
    for target in target_specs(config, lora):
        place, (rows, columns) = target.name.removesuffix(".weight"), target.shape
        specs.append(TensorSpec(name=f"{place}{ADAPTER}a", shape=(lora.r, columns)))
        specs.append(TensorSpec(name=f"{place}{ADAPTER}b", shape=(rows, lora.r)))
    return tuple(specs)
