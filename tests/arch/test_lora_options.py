"""`--lora` as a value: what it says, what it makes of a config, what it refuses."""

from __future__ import annotations

import pytest

from apr.arch.errors import LoraUnsupported
from apr.arch.lora import Lora, adapter_specs, parse_lora, target_specs
from apr.arch.presets import PRESETS
from apr.base.errors import BadOption

SMOLLM2 = PRESETS["smollm2-135m"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("r=16", Lora(r=16, alpha=32.0, targets=("q", "k", "v", "o"))),
        ("r=16,targets=q,k,v,o", Lora(r=16, alpha=32.0, targets=("q", "k", "v", "o"))),
        ("targets=up,q , r=4,alpha=1.5", Lora(r=4, alpha=1.5, targets=("q", "up"))),
        ("r=1,targets=down,gate,gate", Lora(r=1, alpha=2.0, targets=("gate", "down"))),
    ],
)
def test_what_is_asked_is_read_and_spelled_out(text: str, expected: Lora) -> None:
    assert parse_lora(text) == expected
    assert parse_lora(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "16", "r", "r=", "r=0", "r=-1", "r=1.5", "r=nan", "r=inf", "r=70000", "alpha=4", "r=4,alpha=0"),
        *("r=4,alpha=-1", "r=4,alpha=inf", "r=4,r=8", "r=4,targets=", "r=4,targets=x", "r=4,rank=8", "r=4,q"),
        *("r=4,targets=q,,k", "r=4,targets=q_proj", "q,r=4", "r=4,alpha=2,3"),
    ],
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadOption) as caught:
        parse_lora(text, "--set model.lora")
    assert (caught.value.option, caught.value.value) == ("--set model.lora", text)


@pytest.mark.parametrize(
    ("text", "part"),
    [("r=4,dropout=0.1", "dropout"), ("r=4,targets=q,lm_head", "lm_head"), ("r=4,targets=embed", "embed")],
)
def test_what_there_is_not_is_refused_by_name(text: str, part: str) -> None:
    with pytest.raises(LoraUnsupported) as caught:
        parse_lora(text)
    assert caught.value.part == part


def test_adapters_have_the_shapes_of_what_they_stand_beside() -> None:
    lora = parse_lora("r=16,targets=k,down")
    targets, adapters = target_specs(SMOLLM2, lora), adapter_specs(SMOLLM2, lora)
    assert len(targets) == 2 * 30
    assert len(adapters) == 4 * 30
    shapes = {spec.name: spec.shape for spec in adapters}
    assert shapes["model.layers.7.self_attn.k_proj.adapter.a"] == (16, 576)
    assert shapes["model.layers.7.self_attn.k_proj.adapter.b"] == (192, 16)
    assert shapes["model.layers.29.mlp.down_proj.adapter.a"] == (16, 1536)
    assert shapes["model.layers.29.mlp.down_proj.adapter.b"] == (576, 16)
