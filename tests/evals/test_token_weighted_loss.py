"""A mean over tokens, with the uncertainty of a mean over sequences."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from apr.evals.loss import EvalLoss, evaluate_loss

T = 6


def batches(losses: list[list[float]], rows: int) -> list[tuple[Tensor, Tensor]]:
    """Inputs that hold each token's loss in thousandths; short sequences are padded and masked."""
    inputs = torch.zeros(len(losses), T, dtype=torch.int64)
    targets = torch.full((len(losses), T), -100, dtype=torch.int64)
    for i, row in enumerate(losses):
        inputs[i, : len(row)] = torch.tensor([round(1000 * value) for value in row])
        targets[i, : len(row)] = 1
    return list(zip(inputs.split(rows), targets.split(rows), strict=True))


def scripted(inputs: Tensor, targets: Tensor) -> float:
    return float((inputs[targets >= 0].double() / 1000).sum())


ROWS = st.lists(
    st.lists(st.integers(0, 12_000).map(lambda n: n / 1000), min_size=1, max_size=T), min_size=2, max_size=9
)


@settings(deadline=None, max_examples=40)
@given(ROWS, st.integers(1, 4))
def test_every_token_weighs_alike(losses: list[list[float]], rows: int) -> None:
    found = evaluate_loss(scripted, batches(losses, rows))
    flat = [value for row in losses for value in row]
    assert found.loss == pytest.approx(sum(flat) / len(flat))
    assert (found.num_tokens, found.num_sequences) == (len(flat), len(losses))


@settings(deadline=None, max_examples=40)
@given(ROWS)
def test_the_standard_error_is_that_of_a_ratio(losses: list[list[float]]) -> None:
    found = evaluate_loss(scripted, batches(losses, 3))
    sums = torch.tensor([sum(row) for row in losses], dtype=torch.float64)
    counts = torch.tensor([len(row) for row in losses], dtype=torch.float64)
    ratio = sums.sum() / counts.sum()
    variance = torch.var(sums - ratio * counts, correction=1)  # the residuals have mean zero
    wanted = math.sqrt(float(variance) / len(losses)) / float(counts.mean())
    assert found.standard_error == pytest.approx(wanted, abs=1e-9)


def test_equal_sequences_give_the_textbook_error() -> None:
    means = [1.0, 2.0, 4.0]
    found = evaluate_loss(scripted, batches([[mean] * T for mean in means], 2))
    sample = torch.tensor(means, dtype=torch.float64)
    assert found.standard_error == pytest.approx(float(sample.std()) / math.sqrt(3))


def test_a_single_sequence_has_no_error() -> None:
    assert evaluate_loss(scripted, batches([[1.0, 2.0]], 1)).standard_error is None


def test_progress_counts_tokens() -> None:
    told: list[int] = []
    evaluate_loss(scripted, batches([[1.0] * 6, [1.0] * 2, [1.0] * 3], 2), told.append)
    assert told == [8, 11]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_comes_through(bad: float) -> None:
    values = iter([1.0, bad, 1.0])
    found = evaluate_loss(lambda *_: next(values), batches([[1.0]] * 3, 1))
    assert not math.isfinite(found.loss)


def test_derived_figures() -> None:
    found = EvalLoss(loss=math.log(8), standard_error=None, num_tokens=10, num_sequences=1)
    assert found.perplexity == pytest.approx(8.0)
    assert found.bits_per_byte(15) == pytest.approx(2.0)
    huge = EvalLoss(loss=800.0, standard_error=None, num_tokens=1, num_sequences=1)
    assert huge.perplexity == math.inf
