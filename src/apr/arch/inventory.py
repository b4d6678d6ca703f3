"""What tensors a config needs: names, shapes, ties.

Names are those of Hugging Face checkpoints, which `.apr` files carry too. Loading is a bijection against this
list: a tensor that is missing, left over or of another shape is an error, never a warning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from apr.arch.config import TransformerConfig

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
FINAL_NORM = "model.norm.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """A tensor of the model: `shape` is outermost first, `[out, in]` for a linear weight."""

    name: str
    shape: tuple[int, ...]

    @property
    def num_elements(self) -> int:
        """Elements in the tensor."""
        product = 1
        for size in self.shape:
            product *= size
        return product


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The two-way difference between a config's inventory and the tensors at hand."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]  # name, expected, found

    @property
    def is_exact(self) -> bool:
        """Whether every tensor is accounted for, both ways."""
        return not (self.missing or self.unexpected or self.misshapen)


def layer_inventory(config: TransformerConfig, layer: int) -> Iterator[TensorSpec]:
    """Tensors of one block, in forward order."""
    prefix = f"model.layers.{layer}."
    D, F = config.hidden_size, config.intermediate_size
    query = config.num_attention_heads * config.head_dim
    key_value = config.num_key_value_heads * config.head_dim
    yield TensorSpec(name=prefix + "input_layernorm.weight", shape=(D,))
    for letter, width in (("q", query), ("k", key_value), ("v", key_value)):
        yield TensorSpec(name=f"{prefix}self_attn.{letter}_proj.weight", shape=(width, D))
        if config.attention_bias:
            yield TensorSpec(name=f"{prefix}self_attn.{letter}_proj.bias", shape=(width,))
    yield TensorSpec(name=prefix + "self_attn.o_proj.weight", shape=(D, query))
    yield TensorSpec(name=prefix + "post_attention_layernorm.weight", shape=(D,))
    yield TensorSpec(name=prefix + "mlp.gate_proj.weight", shape=(F, D))
    yield TensorSpec(name=prefix + "mlp.up_proj.weight", shape=(F, D))
    yield TensorSpec(name=prefix + "mlp.down_proj.weight", shape=(D, F))


def inventory(config: TransformerConfig) -> tuple[TensorSpec, ...]:
    """Every tensor that is stored for a config, in forward order; a tied head is the embedding and not listed."""
    V, D = config.vocab_size, config.hidden_size
    specs = [TensorSpec(name=EMBEDDING, shape=(V, D))]
    for layer in range(config.num_hidden_layers):
        specs.extend(layer_inventory(config, layer))
    specs.append(TensorSpec(name=FINAL_NORM, shape=(D,)))
    if not config.tie_word_embeddings:
        specs.append(TensorSpec(name=HEAD, shape=(V, D)))
    return tuple(specs)


def cover(specs: Sequence[TensorSpec], found: Mapping[str, tuple[int, ...]]) -> Coverage:
    """Compare an inventory with the shapes at hand, both ways and exactly."""
    expected = {spec.name: spec.shape for spec in specs}
    return Coverage(
        missing=tuple(name for name in expected if name not in found),
        unexpected=tuple(sorted(name for name in found if name not in expected)),
        misshapen=tuple(
            (name, shape, tuple(found[name]))
            for name, shape in expected.items()
            if name in found and tuple(found[name]) != shape
        ),
    )
