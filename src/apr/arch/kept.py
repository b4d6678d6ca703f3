"""What the backward pass keeps: what autograd saves in `apr.model.decoder`, operation by operation.

Where everything is trained that is a sum of widths. Where a part is frozen it depends on two questions, asked of every
operation in forward order: does its input carry a gradient, and is its weight trained? A test holds the answers against
what autograd saves.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from apr.arch.config import TransformerConfig
from apr.arch.inventory import EMBEDDING, FINAL_NORM, inventory
from apr.arch.lora import PROJECTIONS, Lora, target_specs


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What is kept for the backward pass, in bytes."""

    per_token: int
    copies: int  # of matrices in the compute type, where that is narrower than fp32; the head's is the loss's


def kept_for_backward(
    config: TransformerConfig,
    compute_bytes: int,
    trainable: Collection[str] | None = None,
    lora: Lora | None = None,
) -> Kept:
    """Count what one forward pass keeps.

    Args:
        config: of the model.
        compute_bytes: of the compute type, 2 or 4.
        trainable: names of the inventory that are trained; None for all.
        lora: adapters beside them.
    """
    names = {spec.name for spec in inventory(config)} if trainable is None else set(trainable)
    adapted = {spec.name for spec in target_specs(config, lora)} if lora else set()
    walk = _Walk(config, compute_bytes, names, adapted, lora.r if lora else 0)
    walk.ids()
    for layer in range(config.num_hidden_layers):
        walk.block(f"model.layers.{layer}.")
    walk.norm(FINAL_NORM)
    return Kept(per_token=walk.per_token + config.hidden_size * compute_bytes, copies=walk.copies)


class _Walk:
    """The forward pass, counting; `flows` says whether the residual stream carries a gradient so far."""

    def __init__(
        self, config: TransformerConfig, compute_bytes: int, names: set[str], adapted: set[str], rank: int
    ) -> None:
        self.config, self.size, self.rank = config, compute_bytes, rank
        self.names, self.adapted = names, adapted
        self.shapes = {spec.name: spec.shape for spec in inventory(config)}
        self.flows = False
        self.per_token = self.copies = 0

    def ids(self) -> None:
        """A trained embedding keeps the ids that it was asked for."""
        self.flows = EMBEDDING in self.names
        self.per_token += 8 if self.flows else 0

    def block(self, prefix: str) -> None:
        """A block keeps what its attention and its feed-forward keep."""
        x = self.norm(prefix + "input_layernorm.weight")
        self.flows |= self._attention(prefix, x)
        x = self.norm(prefix + "post_attention_layernorm.weight")
        self.flows |= self._feed_forward(prefix, x)

    def norm(self, name: str) -> bool:
        """A norm keeps its input and a factor to pass a gradient on, its scaled output to train; all in fp32."""
        width, trains = self.config.hidden_size, name in self.names
        self.per_token += 4 * width * (self.flows + trains) + 4 * self.flows
        return self.flows or trains

    def _attention(self, prefix: str, x: bool) -> bool:
        """Attention keeps q, k, v and its output, each as wide as the query heads, and a log-sum for each head."""
        heads = self.config.num_attention_heads
        width = heads * self.config.head_dim
        flows = [self._linear(f"{prefix}{PROJECTIONS[letter]}", x) for letter in "qkv"]
        self._input(prefix, "qkv", self.config.hidden_size)
        attends = any(flows)
        self.per_token += (4 * width * self.size + 4 * heads) if attends else 0
        if not attends:  # else its output is kept already
            self._input(prefix, "o", width)
        return self._linear(f"{prefix}{PROJECTIONS['o']}", attends)

    def _feed_forward(self, prefix: str, x: bool) -> bool:
        """The feed-forward keeps up to four values of its width: two products, the activation, what down reads."""
        width = self.config.intermediate_size * self.size
        gate, up = (self._linear(f"{prefix}{PROJECTIONS[word]}", x) for word in ("gate", "up"))
        self._input(prefix, ("gate", "up"), self.config.hidden_size)
        self.per_token += width * (2 * gate + up)  # the activation's input, and what multiplies each
        self._input(prefix, ("down",), self.config.intermediate_size)
        return self._linear(f"{prefix}{PROJECTIONS['down']}", gate or up)

    def _input(self, prefix: str, letters: str | tuple[str, ...], width: int) -> None:
        """The input of projections is kept once, if one of them trains."""
        places = [f"{prefix}{PROJECTIONS[letter]}.weight" for letter in letters]
        if any(place in self.names or place in self.adapted for place in places):
            self.per_token += width * self.size

    def _linear(self, place: str, x: bool) -> bool:
        """Count what the weights of a projection cost; returns whether its output carries a gradient."""
        name = f"{place}.weight"
        narrow = self.size if self.size < 4 else 0  # in fp32 the weight itself is kept
        rows, columns = self.shapes[name]
        self.copies += narrow * rows * columns * x
        if name in self.adapted:
            self.per_token += self.rank * self.size
            self.copies += narrow * self.rank * (rows + columns * x)
        return x or name in self.adapted or name in self.names or f"{place}.bias" in self.names
