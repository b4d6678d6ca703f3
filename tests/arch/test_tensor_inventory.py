"""What a config needs, both ways and exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest

from apr.arch.inventory import EMBEDDING, FINAL_NORM, HEAD, cover, inventory
from apr.arch.presets import PRESETS
from tiny import CONFIG, QWEN_LIKE

SHAPES = {spec.name: spec.shape for spec in inventory(QWEN_LIKE)}


def test_names_and_shapes_of_a_block() -> None:
    prefix = "model.layers.1."
    block = {name[len(prefix) :]: shape for name, shape in SHAPES.items() if name.startswith(prefix)}
    assert block == {
        "input_layernorm.weight": (64,),
        "self_attn.q_proj.weight": (64, 64),
        "self_attn.q_proj.bias": (64,),
        "self_attn.k_proj.weight": (32, 64),
        "self_attn.k_proj.bias": (32,),
        "self_attn.v_proj.weight": (32, 64),
        "self_attn.v_proj.bias": (32,),
        "self_attn.o_proj.weight": (64, 64),
        "post_attention_layernorm.weight": (64,),
        "mlp.gate_proj.weight": (256, 64),
        "mlp.up_proj.weight": (256, 64),
        "mlp.down_proj.weight": (64, 256),
    }


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_head_is_not_stored(tied: bool) -> None:
    names = [spec.name for spec in inventory(replace(CONFIG, tie_word_embeddings=tied))]
    assert names[0] == EMBEDDING
    assert names[-1] == (FINAL_NORM if tied else HEAD)
    assert not any(name.endswith("bias") for name in names)


def test_head_dim_may_differ_from_hidden_over_heads() -> None:
    config = replace(PRESETS["tiny"], head_dim=8)
    shapes = {spec.name: spec.shape for spec in inventory(config)}
    assert shapes["model.layers.0.self_attn.o_proj.weight"] == (64, 16)


def test_an_exact_cover() -> None:
    assert cover(inventory(QWEN_LIKE), SHAPES).is_exact


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.k_proj.bias", FINAL_NORM])
def test_each_way_of_not_covering_is_named(name: str) -> None:
    specs = inventory(QWEN_LIKE)
    missing = cover(specs, {key: shape for key, shape in SHAPES.items() if key != name})
    unexpected = cover([spec for spec in specs if spec.name != name], SHAPES)
    misshapen = cover(specs, {**SHAPES, name: (1,)})
    assert (missing.missing, missing.unexpected, missing.misshapen) == ((name,), (), ())
    assert (unexpected.missing, unexpected.unexpected, unexpected.misshapen) == ((), (name,), ())
    assert misshapen.misshapen == ((name, SHAPES[name], (1,)),)
    assert not any(coverage.is_exact for coverage in (missing, unexpected, misshapen))


def test_a_transposed_matrix_is_misshapen() -> None:
    name = "model.layers.0.mlp.down_proj.weight"
    assert cover(inventory(QWEN_LIKE), {**SHAPES, name: (256, 64)}).misshapen == (
        (name, (64, 256), (256, 64)),
    )
