"""Step zero reads back what the optimizer would update, and with which settings."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from apr.model.decoder import Decoder
from apr.model.initialise import random_decoder
from apr.train.certify import _settings_gate
from apr.train.optimizer import build_optimizer
from apr.train.plan import resolve
from apr.train.spec import RunSpec
from apr.train.subset import subset_of
from tiny import CONFIG


def spoil_betas(optimizer: torch.optim.AdamW) -> None:
    optimizer.param_groups[1]["betas"] = (0.9, 0.999)


def decay_norms(optimizer: torch.optim.AdamW) -> None:
    optimizer.param_groups[1]["weight_decay"] = 0.01


def drop_a_tensor(optimizer: torch.optim.AdamW) -> None:
    optimizer.param_groups[0]["params"].pop()


def train_a_copy(optimizer: torch.optim.AdamW) -> None:
    held = optimizer.param_groups[0]["params"]
    held[3] = torch.nn.Parameter(held[3].detach().clone())


def hold_one_twice(optimizer: torch.optim.AdamW) -> None:
    optimizer.param_groups[1]["params"].append(optimizer.param_groups[0]["params"][0])


@pytest.fixture
def decoder() -> Decoder:
    return random_decoder(CONFIG, 0)


@pytest.mark.parametrize(
    ("spoil", "verdict"),
    [
        (lambda optimizer: None, "yes"),
        (spoil_betas, "no"),
        (decay_norms, "no"),
        (drop_a_tensor, "no"),
        (train_a_copy, "no"),
        (hold_one_twice, "no"),
    ],
)
def test_settings_are_the_plans(
    decoder: Decoder, spoil: Callable[[torch.optim.AdamW], None], verdict: str, tmp_path
) -> None:
    plan = resolve(RunSpec(dataset=tmp_path, run_dir=tmp_path))
    optimizer = build_optimizer(
        decoder.named_parameters(), lr=plan.lr, betas=plan.betas, weight_decay=plan.weight_decay
    )
    spoil(optimizer)
    gate = _settings_gate(optimizer, decoder, plan, subset_of(plan, decoder.config))
    assert (gate.id, gate.verdict) == ("optimizer.settings", verdict)
