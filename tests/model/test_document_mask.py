"""Attention inside documents: a masked window is its documents, each alone, in outputs, loss and gradients."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from apr.arch.config import RopeScaling, TransformerConfig
from apr.data.documents import document_numbers
from apr.model.adapters import loss_sum
from apr.model.decoder import Decoder
from apr.model.masks import document_mask
from apr.stepzero.oracle import build_transformers_model
from tiny import CONFIG, QWEN_LIKE, make_weights

pytestmark = pytest.mark.usefixtures("one_thread")
SCALED = replace(CONFIG, rope_scaling=RopeScaling(rope_type="linear", factor=4.0), rope_theta=1e6)
LONG = replace(CONFIG, max_position_embeddings=2048)
CONFIGS = {"llama": CONFIG, "qwen2": QWEN_LIKE, "scaled rope": SCALED, "longer than a kernel's block": LONG}
SEPARATOR = 0
EDGES = (0, 1, 9, 10, 31, 48)


def decoder_of(config: TransformerConfig) -> Decoder:
    decoder = Decoder(config)
    decoder.load_state_dict({name: torch.from_numpy(value) for name, value in make_weights(config).items()})
    return decoder


def rows(edges: tuple[int, ...] = EDGES, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Two windows, the first cut at the edges, the second one document: ids and documents [2, T]."""
    ids = torch.randint(1, CONFIG.vocab_size, (2, edges[-1]), generator=torch.Generator().manual_seed(seed))
    ids[0, [edge - 1 for edge in edges[1:-1]]] = SEPARATOR
    return ids, torch.from_numpy(document_numbers(ids.numpy(), SEPARATOR))


def edges_of(name: str) -> tuple[int, ...]:
    return (0, 500, 513, 1100, 1300) if name.startswith("longer") else EDGES


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_a_masked_window_is_its_documents_alone(name: str) -> None:
    """Alone a document begins at position 0, here it does not: counting positions anew would change nothing."""
    decoder, edges = decoder_of(CONFIGS[name]), edges_of(name)
    ids, documents = rows(edges)
    masked = decoder.hidden(ids, documents_BT=documents)
    for start, stop in pairwise(edges):
        alone = decoder.hidden(ids[:1, start:stop])
        torch.testing.assert_close(masked[:1, start:stop], alone, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(masked[1:], decoder.hidden(ids[1:]), atol=2e-5, rtol=1e-5)
    assert (masked[0] - decoder.hidden(ids)[0]).abs().max() > 1e-2


@pytest.mark.parametrize("name", CONFIGS)
def test_the_loss_is_that_of_the_documents_alone(name: str) -> None:
    """The token behind a separator is predicted too, from the separator's own document."""
    score, edges = loss_sum(decoder_of(CONFIGS[name]), torch.float32), edges_of(name)
    ids, documents = rows(edges)
    inputs, targets, documents = ids[:1, :-1], ids[:1, 1:], documents[:1, :-1]
    ends = (*edges[:-1], edges[-1] - 1)
    parts = [slice(start, stop) for start, stop in pairwise(ends)]
    alone = sum(score(inputs[:, part], targets[:, part]) for part in parts)
    assert score(inputs, targets, documents) == pytest.approx(alone, rel=2e-6)
    assert score(inputs, targets) != pytest.approx(alone, rel=1e-4)


@pytest.mark.parametrize("config", [CONFIG, QWEN_LIKE], ids=["llama", "qwen2"])
def test_logits_and_gradients_are_those_of_transformers_with_a_mask_of_four_axes(
    config: TransformerConfig,
) -> None:
    weights = make_weights(config)
    ours, theirs = decoder_of(config), build_transformers_model(config, weights)
    ids, documents = rows()
    allowed = (documents[:, None, :, None] == documents[:, None, None, :]) & torch.ones(48, 48).tril().bool()
    mask = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    logits = theirs(ids, attention_mask=mask, use_cache=False).logits
    found = torch.nn.functional.linear(ours.hidden(ids, documents_BT=documents), ours.head_weight)
    assert (found - logits).abs().max().item() <= 1e-5
    for out in (found, logits):
        torch.nn.functional.cross_entropy(out[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    gradients = {name: value.grad for name, value in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_a_token_changes_no_other_document_by_a_bit(name: str, dtype: torch.dtype) -> None:
    decoder, edges = decoder_of(CONFIGS[name]), edges_of(name)
    ids, documents = rows(edges)
    once = decoder.hidden(ids, dtype=dtype, documents_BT=documents)
    for number, (start, stop) in enumerate(pairwise(edges)):
        changed = ids.clone()
        changed[0, start] = changed[0, start] % (CONFIG.vocab_size - 1) + 1
        again = decoder.hidden(changed, dtype=dtype, documents_BT=documents)
        other = documents[0] != number
        assert torch.equal(again[0, other], once[0, other])
        assert not torch.equal(again[0, start:stop], once[0, start:stop])
        assert torch.equal(again[1], once[1])


def test_no_gradient_crosses_a_boundary() -> None:
    decoder = decoder_of(replace(CONFIG, tie_word_embeddings=False))
    ids, documents = rows((0, 20, 48))
    ids[0, :19], ids[0, 20:] = 7, 8
    decoder.hidden(ids[:1], documents_BT=documents[:1])[0, 20:].sum().backward()
    gradient = decoder.model.embed_tokens.weight.grad
    assert gradient is not None
    assert not gradient[7].any()
    assert gradient[8].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_mask_has_no_axis_of_heads_and_is_of_the_scores_type(dtype: torch.dtype) -> None:
    mask = document_mask(torch.tensor([[0, 0, 1], [0, 1, 2]], dtype=torch.int32), dtype)
    assert (mask.shape, mask.dtype) == ((2, 1, 3, 3), dtype)
    open_ = (mask == 0).int().tolist()
    assert open_ == [[[[1, 0, 0], [1, 1, 0], [0, 0, 1]]], [[[1, 0, 0], [0, 1, 0], [0, 0, 1]]]]
    assert torch.equal(mask.isneginf(), mask != 0)


def test_all_layers_keep_one_mask_for_the_backward_pass() -> None:
    decoder = decoder_of(CONFIG)
    ids, documents = rows()
    saved: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        if value.shape[-2:] == (48, 48):
            saved[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        hidden = decoder.hidden(ids, documents_BT=documents)
    assert list(saved.values()) == [2 * 48 * 48 * 4]
    hidden.sum().backward()
