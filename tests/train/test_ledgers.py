"""Bounds and patience, from scripted losses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from apr.train.errors import LossDiverged
from apr.train.ledger import Ledger
from apr.train.loop import Update
from apr.train.plan import resolve
from apr.train.spec import RunSpec

V = 1000


def ledger(step0: float = 5.0, **changes: Any) -> Ledger:
    given = {"num_steps": 20, "steps_per_epoch": 2, **changes}
    plan = resolve(RunSpec(dataset=Path("d"), run_dir=Path("r"), **given))
    return Ledger(plan=plan, step0_loss=step0)


def update(step: int, loss: float = 1.0, tokens: int = 10, norm: float = 1.0) -> Update:
    return Update(step=step, train_loss=loss, grad_norm=norm, lr=0.1, num_tokens=tokens, seconds=0.5)


def judged(book: Ledger, losses: list[float]) -> list[bool]:
    """Whether patience is spent after each epoch."""
    answers = []
    for epoch, loss in enumerate(losses, 1):
        book.steps = epoch * 2
        book.judge(loss, V)
        answers.append(book.is_out_of_patience)
    return answers


@pytest.mark.parametrize(
    ("losses", "spent_at"),
    [
        ([4.0, 3.0, 2.0, 1.9, 1.8], None),
        ([4.0, 4.1, 4.2], 3),  # two epochs without gain, and it is the third
        ([4.0, 4.0, 4.0], 3),  # staying is no gain
        ([4.0, 3.0, 3.1, 3.2], 4),
        ([4.0, 3.0, 3.1, 2.9, 3.0, 2.8], None),
        ([4.0, 3.0, 3.1, 3.05], 4),  # better than the last is not better than the best
    ],
)
def test_patience_is_two_epochs_and_not_before_the_third(losses: list[float], spent_at: int | None) -> None:
    answers = judged(ledger(), losses)
    assert (answers.index(True) + 1 if True in answers else None) == spent_at


def test_patience_is_not_spent_before_the_third_epoch() -> None:
    book = ledger()
    book.epochs_without_gain = 5
    assert [setattr(book, "steps", step) or book.is_out_of_patience for step in (2, 4, 5, 6)] == [
        False,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("mode", "step0", "losses", "limit"),
    [
        ("finetune", 5.0, [9.9], None),
        ("finetune", 4.9, [9.9], 9.8),  # twice the loss before the first step
        ("finetune", 9.0, [10.01], 10.0),
        ("finetune", 5.0, [4.0, 8.0], None),
        ("finetune", 5.0, [4.0, 8.01], 8.0),
        ("finetune", 5.0, [4.0, 3.0, 6.1], 6.0),
        ("from-scratch", 6.9, [13.8], None),
        ("from-scratch", 7.5, [13.9], 2 * math.log(V)),
        ("finetune", 5.0, [math.nan], 10.0),
        ("finetune", 5.0, [4.0, math.inf], 8.0),
    ],
)
def test_a_loss_that_doubles_is_fatal(
    mode: str, step0: float, losses: list[float], limit: float | None
) -> None:
    book = ledger(step0, mode=mode)
    if limit is None:
        judged(book, losses)
        assert book.val_losses == losses
        return
    with pytest.raises(LossDiverged) as caught:
        judged(book, losses)
    assert caught.value.limit == pytest.approx(limit)
    assert caught.value.epoch == len(losses)
    assert f"{limit:.4f}" in caught.value.message
    assert book.val_losses == losses[:-1]


def test_an_epochs_loss_weighs_tokens_and_starts_anew() -> None:
    book = ledger()
    book.add(update(1, loss=1.0, tokens=30, norm=7.0))
    book.add(update(2, loss=5.0, tokens=10, norm=3.0))
    assert book.close_epoch() == (2.0, 7.0)
    book.add(update(3, loss=4.0, tokens=10, norm=2.0))
    assert book.close_epoch() == (4.0, 2.0)


def test_figures_of_a_step() -> None:
    book = ledger()
    assert book.tokens_per_sec is None
    book.add(update(1, tokens=10))
    figures = book.add(update(2, tokens=30))
    assert (figures.tokens_seen, figures.tokens_per_sec, figures.seconds_left) == (40, 60.0, 9.0)
    assert book.tokens_per_sec == 40.0


@pytest.mark.parametrize(
    ("num_steps", "ends"), [(5, [False, True, False, True, True]), (1, [True]), (2, [False, True])]
)
def test_the_last_epoch_may_be_short(num_steps: int, ends: list[bool]) -> None:
    book, found, epochs = ledger(num_steps=num_steps), [], []
    for step in range(1, num_steps + 1):
        book.add(update(step))
        found.append(book.is_epoch_end)
        epochs.append(book.epoch)
    assert found == ends
    assert epochs == [math.ceil(step / 2) for step in range(1, num_steps + 1)]
    assert not book.is_complete
    book.close_epoch()
    assert book.is_complete
