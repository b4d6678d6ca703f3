"""Adapters beside projections: what they compute, by PEFT's word, how they are drawn, and what a merge is."""

from __future__ import annotations

import json
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from apr.arch.lora import adapter_specs, parse_lora
from apr.model.initialise import random_decoder
from apr.model.lora import (
    adapter_parameters,
    attach,
    base_parameters,
    from_peft,
    merged_weights,
    rehearsed_start,
    replaced,
    to_peft,
)
from apr.model.loss import next_token_loss
from apr.train.merge import adapter_config
from tiny import CONFIG

pytestmark = pytest.mark.usefixtures("one_thread")
IDS = torch.arange(40).view(2, 20) * 7 % CONFIG.vocab_size
ALL = parse_lora("r=3,alpha=5,targets=q,k,v,o,gate,up,down")


def adapted(text: str = str(ALL), seed: int = 0) -> Any:
    decoder = random_decoder(CONFIG, 1)
    attach(decoder, parse_lora(text), seed)
    return decoder


@torch.no_grad()
def randomise(decoder: Any, std: float = 0.1) -> None:
    generator = torch.Generator().manual_seed(3)
    for name, value in adapter_parameters(decoder).items():
        if name.endswith(".b"):
            value.normal_(0.0, std, generator=generator)


def test_at_the_start_the_model_computes_what_it_did_to_the_bit() -> None:
    plain, decoder = random_decoder(CONFIG, 1), adapted()
    for dtype in (torch.float32, torch.bfloat16):
        assert torch.equal(decoder(IDS, dtype=dtype), plain(IDS, dtype=dtype))


def test_adapters_are_those_of_the_plan_and_nothing_else_is_a_new_parameter() -> None:
    decoder = adapted("r=4,targets=v,down")
    found = {name: tuple(value.shape) for name, value in adapter_parameters(decoder).items()}
    assert found == {s.name: s.shape for s in adapter_specs(CONFIG, parse_lora("r=4,targets=v,down"))}
    assert set(base_parameters(decoder)) == {name for name, _ in random_decoder(CONFIG, 0).named_parameters()}


def test_a_draw_depends_on_seed_and_name_alone() -> None:
    few, many, other = (
        adapted("r=4,targets=v"),
        adapted("r=4,targets=q,v,up"),
        adapted("r=4,targets=v", seed=1),
    )
    name = "model.layers.1.self_attn.v_proj.adapter.a"
    assert torch.equal(few.get_parameter(name), many.get_parameter(name))
    assert not torch.equal(few.get_parameter(name), other.get_parameter(name))
    assert not torch.equal(few.get_parameter(name), few.get_parameter(name.replace("1", "0", 1)))
    bound = CONFIG.hidden_size**-0.5
    assert 0.9 * bound < float(few.get_parameter(name).detach().abs().max()) <= bound
    torch.manual_seed(99)
    assert torch.equal(few.get_parameter(name), adapted("r=4,targets=v").get_parameter(name))


@pytest.mark.parametrize(
    "text", ["r=3,alpha=5,targets=q,k,v,o,gate,up,down", "r=16", "r=1,alpha=0.5,targets=down"]
)
def test_peft_computes_the_same_from_the_same_files(text: str, tmp_path: Path) -> None:
    """The folder that a run writes, loaded by PEFT onto transformers' own model: adapter and merge."""
    decoder = adapted(text)
    randomise(decoder)
    values = {key: value for key, value in CONFIG.to_dict().items() if key != "family"}
    theirs = LlamaForCausalLM(LlamaConfig(**{**values, "attn_implementation": "eager"}))
    theirs.load_state_dict(base_parameters(decoder), strict=False)
    theirs.tie_weights()
    save_file(to_peft(adapter_parameters(decoder)), tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(adapter_config(parse_lora(text))))
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        before = theirs(IDS).logits
        loaded = peft.PeftModel.from_pretrained(theirs, str(tmp_path)).eval()
        expected = loaded(IDS).logits
        ours = decoder(IDS)
        assert float((expected - before).abs().max()) > 1e-3
        assert torch.allclose(ours, expected, atol=2e-5, rtol=1e-4)
        weights = merged_weights(decoder)
        with replaced(decoder, weights):
            merged_logits = decoder(IDS)
        union = loaded.merge_and_unload().state_dict()
    assert all(torch.allclose(value, union[name], atol=1e-6) for name, value in weights.items())
    assert torch.allclose(merged_logits, expected, atol=2e-5, rtol=1e-4)
    tied = union["lm_head.weight"].data_ptr() == union["model.embed_tokens.weight"].data_ptr()
    assert tied == CONFIG.tie_word_embeddings


def test_gradients_are_those_of_the_formula_written_out() -> None:
    decoder = adapted("r=4,targets=o,up")
    randomise(decoder)
    for value in base_parameters(decoder).values():
        value.requires_grad_(False)
    next_token_loss(decoder.hidden(IDS), decoder.head_weight, IDS, 1.0 / IDS.numel()).backward()
    assert all(value.grad is None for value in base_parameters(decoder).values())
    leaves = {n: v.detach().clone().requires_grad_() for n, v in adapter_parameters(decoder).items()}
    weights = {}
    for name, base in base_parameters(decoder).items():
        place = name.removesuffix("weight") + "adapter."
        if place + "a" in leaves:
            base = base.detach() + 2.0 * leaves[place + "b"] @ leaves[place + "a"]
        weights[name] = base
    for _, module in decoder.named_modules():
        if getattr(module, "adapter", None) is not None:
            module.adapter = None
    logits = torch.func.functional_call(decoder, weights, (IDS,))
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), IDS.flatten())
    expected.backward()
    original = adapted("r=4,targets=o,up")
    randomise(original)
    next_token_loss(original.hidden(IDS), original.head_weight, IDS, 1.0 / IDS.numel()).backward()
    for name, value in adapter_parameters(original).items():
        assert torch.allclose(value.grad, leaves[name].grad, atol=1e-6, rtol=1e-3), name


@pytest.mark.parametrize("frozen", ["head", "trunk"])
def test_the_loss_gives_the_gradient_that_is_asked_for_and_no_other(frozen: str) -> None:
    hidden = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    head = torch.randn(11, 8, generator=torch.Generator().manual_seed(1))
    targets = torch.arange(15).view(3, 5) % 11
    both = [hidden.clone().requires_grad_(), head.clone().requires_grad_()]
    next_token_loss(*both, targets, 0.1).backward()
    some = [hidden.clone().requires_grad_(frozen != "trunk"), head.clone().requires_grad_(frozen != "head")]
    next_token_loss(*some, targets, 0.1).backward()
    for whole, part in zip(both, some, strict=True):
        assert part.grad is None if not part.requires_grad else torch.equal(part.grad, whole.grad)


def test_a_rehearsed_start_is_taken_back_whatever_happens() -> None:
    decoder = adapted()
    before = {name: value.detach().clone() for name, value in adapter_parameters(decoder).items()}
    with suppress(ZeroDivisionError), rehearsed_start(decoder, 0):
        during = {name: value.detach().clone() for name, value in adapter_parameters(decoder).items()}
        raise ZeroDivisionError
    assert all(bool(value.any()) for value in during.values())
    assert all(torch.equal(value, before[name]) for name, value in during.items() if name.endswith(".a"))
    assert all(torch.equal(value, before[name]) for name, value in adapter_parameters(decoder).items())


def test_a_replacement_is_taken_back_with_the_very_same_storages() -> None:
    decoder = adapted()
    randomise(decoder)
    before, logits = {n: v.data_ptr() for n, v in decoder.named_parameters()}, decoder(IDS)
    with suppress(ZeroDivisionError), replaced(decoder, merged_weights(decoder)):
        during = adapter_parameters(decoder)
        raise ZeroDivisionError
    assert not during
    assert {n: v.data_ptr() for n, v in decoder.named_parameters()} == before
    assert torch.equal(decoder(IDS), logits)


def test_a_merge_does_not_depend_on_the_number_of_threads() -> None:
    decoder = adapted("r=16,targets=down")
    randomise(decoder)
    once = merged_weights(decoder)
    torch.set_num_threads(2)
    try:
        again = merged_weights(decoder)
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(once[name], again[name]) for name in once)


def test_names_go_to_peft_and_back() -> None:
    names = list(adapter_parameters(adapted()))
    assert [from_peft(name) for name in to_peft(adapter_parameters(adapted()))] == names
    assert from_peft("base_model.model.lm_head.weight") is None
