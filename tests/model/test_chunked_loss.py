"""The chunked cross-entropy against torch's own, over every border."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from apr.model import loss as loss_module
from apr.model.loss import IGNORE, next_token_loss

pytestmark = pytest.mark.usefixtures("one_thread")
V, D = 37, 8


def plain(hidden: Tensor, head: Tensor, targets: Tensor, scale: float) -> Tensor:
    logits = (hidden @ head.to(hidden.dtype).T).float().flatten(0, 1)
    total = torch.nn.functional.cross_entropy(logits, targets.flatten(), ignore_index=IGNORE, reduction="sum")
    return total * scale


def problem(rows: int, length: int, share_masked: float, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(rows * 100 + length)
    hidden = torch.randn(rows, length, D, generator=random).to(dtype)
    head = torch.randn(V, D, generator=random)
    targets = torch.randint(0, V, (rows, length), generator=random)
    targets[torch.rand(rows, length, generator=random) < share_masked] = IGNORE
    return hidden.requires_grad_(), head.requires_grad_(), targets


def both(
    hidden: Tensor, head: Tensor, targets: Tensor, scale: float, upstream: float = 1.0
) -> list[tuple[Tensor, Tensor]]:
    """Pairs (ours, torch's): loss, gradient of hidden, gradient of head."""
    found = []
    for function in (next_token_loss, plain):
        hidden.grad = head.grad = None
        value = function(hidden, head, targets, scale)
        (value * upstream).backward()
        assert hidden.grad is not None
        assert head.grad is not None
        found.append((value.detach(), hidden.grad.clone(), head.grad.clone()))
    return list(zip(*found, strict=True))


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 3),
    length=st.integers(1, 9),
    chunk=st.sampled_from([1, V - 1, V, 2 * V, 3 * V + 5, 8 * V, 9 * V, 10 * V, 1 << 25]),
    masked=st.sampled_from([0.0, 0.4, 1.0]),
    scale=st.sampled_from([1.0, 0.013, 3.0]),
)
def test_loss_and_gradients_are_torchs(
    rows: int, length: int, chunk: int, masked: float, scale: float
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_module, "CHUNK_LOGITS", chunk)
        for ours, theirs in both(*problem(rows, length, masked, torch.float32), scale, upstream=0.5):
            # What cancels leaves rounding behind that is as large as the scale.
            torch.testing.assert_close(ours, theirs, atol=1e-6 * max(1.0, scale), rtol=1e-5)


@pytest.mark.parametrize("chunk", [V, 4 * V, 1 << 25])
def test_bf16_gradients_are_torchs_to_its_precision(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(loss_module, "CHUNK_LOGITS", chunk)
    (loss, wanted), (hidden, hidden_wanted), (head, head_wanted) = both(
        *problem(3, 9, 0.3, torch.bfloat16), 1 / 20
    )
    assert loss.dtype == head.dtype == torch.float32
    assert hidden.dtype == torch.bfloat16
    torch.testing.assert_close(loss, wanted, atol=1e-5, rtol=1e-5)  # the softmax is in fp32 in both
    torch.testing.assert_close(hidden, hidden_wanted, atol=2e-3, rtol=2e-2)
    torch.testing.assert_close(head, head_wanted, atol=2e-3, rtol=2e-2)


def test_a_masked_target_has_no_gradient() -> None:
    hidden, head, targets = problem(1, 6, 0.0, torch.float32)
    targets[0, 2:4] = IGNORE
    next_token_loss(hidden, head, targets, 1.0).backward()
    assert hidden.grad is not None
    assert not hidden.grad[0, 2:4].any()
    assert bool(hidden.grad[0, [0, 1, 4, 5]].any(dim=1).all())


def test_nothing_to_predict_is_zero() -> None:
    hidden, head, _ = problem(1, 4, 0.0, torch.float32)
    loss = next_token_loss(hidden, head, torch.full((1, 4), IGNORE), 1.0)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert head.grad is not None
    assert not head.grad.any()


def test_without_gradients_none_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Tensor) -> Tensor:
        raise AssertionError("a gradient was computed for nobody")

    monkeypatch.setattr(loss_module, "_softmax_gradient", never)
    hidden, head, targets = problem(2, 5, 0.2, torch.float32)
    hidden.requires_grad_(), head.requires_grad_()
    with torch.no_grad():
        loss = next_token_loss(hidden, head, targets, 1.0)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, plain(hidden, head, targets, 1.0).detach())


def test_a_nan_comes_through() -> None:
    hidden, head, targets = problem(1, 4, 0.0, torch.float32)
    with torch.no_grad():
        hidden[0, 1, 0] = float("nan")
    assert torch.isnan(next_token_loss(hidden, head, targets, 1.0))
