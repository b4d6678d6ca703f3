"""Every gate says yes to what holds and no to what does not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from apr.evals.loss import EvalLoss
from apr.stepzero import gates
from apr.stepzero.gate import GateResult, json_value, timed, verdict_of

V = 1000
LN_V = math.log(V)


def step0(loss: float) -> EvalLoss:
    return EvalLoss(loss=loss, standard_error=0.1, num_tokens=9, num_sequences=3)


def tokenizer(**changes: Any) -> GateResult:
    good: dict[str, Any] = {
        "tokenizer_sha256": "a" * 64,
        "shards_sha256": {"train": "a" * 64, "validation": "a" * 64},
        "tokenizer_size": V - 5,
        "vocab_size": V,
    }
    return gates.tokenizer_gate(**{**good, **changes})


def container(**changes: str) -> GateResult:
    sums = {"header": "ok", "footer": "ok", "digests": "ok", **changes}
    return gates.container_gate(size_bytes=1, checksums=sums, file_digest="f")


def loss_gate(loss: float, *, init: bool = True, reference: bool = False) -> GateResult:
    return gates.step0_gate(
        step0=step0(loss),
        random_init_loss=LN_V,
        unigram=5.0,
        vocab_size=V,
        from_init=init,
        has_reference=reference,
    )


def optimizer(moment: float = 0.0, step: float = 0.0) -> GateResult:
    return gates.optimizer_gate(num_state_tensors=0, max_moment=moment, max_step=step)


def settings(**changes: Any) -> GateResult:
    """A matrix and a norm, as planned; a change of None takes a tensor out of the optimizer."""
    planned = {"matrix": (0.01, 0.9, 0.95, 1e-8), "norm": (0.0, 0.9, 0.95, 1e-8)}
    held = {name: value for name, value in {**planned, **changes}.items() if value is not None}
    return gates.optimizer_settings_gate(planned=planned, read_back=held)


CASES: list[tuple[str, Callable[[], GateResult], str]] = [
    ("tokens.tokenizer", tokenizer, "yes"),
    ("tokens.tokenizer", lambda: tokenizer(tokenizer_size=V), "yes"),
    ("tokens.tokenizer", lambda: tokenizer(tokenizer_size=V + 1), "no"),
    ("tokens.tokenizer", lambda: tokenizer(tokenizer_size=None), "no"),
    ("tokens.tokenizer", lambda: tokenizer(tokenizer_sha256=None), "no"),
    ("tokens.tokenizer", lambda: tokenizer(tokenizer_sha256="b" * 64), "no"),
    ("tokens.tokenizer", lambda: tokenizer(shards_sha256={"train": "a" * 64, "validation": "b"}), "no"),
    ("tokens.ids", lambda: gates.ids_gate(max_token_id=V - 1, vocab_size=V, num_tokens=1), "yes"),
    ("tokens.ids", lambda: gates.ids_gate(max_token_id=V, vocab_size=V, num_tokens=1), "no"),
    ("tokens.split", lambda: gates.split_gate(num_shared=0, num_train=2, num_validation=1, num_tokens=128), "yes"),
    ("tokens.split", lambda: gates.split_gate(num_shared=1, num_train=2, num_validation=1, num_tokens=128), "no"),
    ("file.container", container, "yes"),
    ("file.container", lambda: container(digests="absent"), "not known"),
    ("file.container", lambda: container(footer="unchecked"), "not known"),
    ("file.config", lambda: gates.config_gate(config={"a": 1}, differences=()), "yes"),
    ("file.config", lambda: gates.config_gate(config={"a": 1}, differences=["a is 1, not 2"]), "no"),
    ("weights.coverage", lambda: gates.coverage_gate(expected=3, found=3, num_parameters=9, tied=True), "yes"),
    ("weights.coverage", lambda: gates.coverage_gate(expected=3, found=2, num_parameters=9, tied=True), "no"),
    *(
        ("loss.random_init", lambda loss=loss: gates.random_init_gate(loss=loss, num_tokens=9, vocab_size=V), verdict)
        for loss, verdict in [
            (LN_V, "yes"), (LN_V + 0.49, "yes"), (LN_V - 0.49, "yes"),
            (LN_V + 0.51, "no"), (LN_V - 0.51, "no"), (math.nan, "no"), (math.inf, "no"),
        ]
    ),
    # without a reference: from a tenth of the unigram entropy up to it
    ("loss.step0", lambda: loss_gate(4.9), "yes"),
    ("loss.step0", lambda: loss_gate(5.1), "no"),
    ("loss.step0", lambda: loss_gate(0.51), "yes"),
    ("loss.step0", lambda: loss_gate(0.49), "no"),
    ("loss.step0", lambda: loss_gate(math.nan), "no"),
    # with one: the same lower limit, and the upper one of INV-TRAIN-005
    ("loss.step0", lambda: loss_gate(9.9, reference=True), "yes"),
    ("loss.step0", lambda: loss_gate(10.1, reference=True), "no"),
    ("loss.step0", lambda: loss_gate(0.51, reference=True), "yes"),
    ("loss.step0", lambda: loss_gate(0.49, reference=True), "no"),
    ("loss.step0", lambda: loss_gate(0.0, reference=True), "no"),
    ("loss.step0", lambda: loss_gate(math.nan, reference=True), "no"),
    # from scratch: up to twice ln V
    ("loss.step0", lambda: loss_gate(0.49, init=False), "no"),
    ("loss.step0", lambda: loss_gate(2 * LN_V - 0.1, init=False), "yes"),
    ("loss.step0", lambda: loss_gate(2 * LN_V + 0.1, init=False), "no"),
    ("optimizer.fresh", optimizer, "yes"),
    ("optimizer.fresh", lambda: optimizer(moment=1e-9), "no"),
    ("optimizer.fresh", lambda: optimizer(moment=math.nan), "no"),
    ("optimizer.fresh", lambda: optimizer(step=1.0), "no"),
    ("optimizer.settings", settings, "yes"),
    ("optimizer.settings", lambda: settings(matrix=(0.1, 0.9, 0.95, 1e-8)), "no"),
    ("optimizer.settings", lambda: settings(norm=(0.01, 0.9, 0.95, 1e-8)), "no"),
    ("optimizer.settings", lambda: settings(matrix=(0.01, 0.95, 0.9, 1e-8)), "no"),
    ("optimizer.settings", lambda: settings(norm=(0.0, 0.9, 0.999, 1e-8)), "no"),
    ("optimizer.settings", lambda: settings(matrix=(0.01, 0.9, 0.95, 1e-6)), "no"),
    ("optimizer.settings", lambda: settings(norm=None), "no"),
    ("optimizer.settings", lambda: settings(other=(0.0, 0.9, 0.95, 1e-8)), "no"),
    ("reference.loss", lambda: gates.reference_absent_gate("none recorded"), "not known"),
]  # fmt: skip


NAMES = [f"{number}-{gate_id}-{verdict}" for number, (gate_id, _, verdict) in enumerate(CASES)]


@pytest.mark.parametrize(("gate_id", "judge", "verdict"), CASES, ids=NAMES)
def test_verdict(gate_id: str, judge: Callable[[], GateResult], verdict: str) -> None:
    result = judge()
    assert (result.id, result.verdict) == (gate_id, verdict)
    assert result.claim
    assert bool(result.cause) is (verdict == "no")  # a refusal says why


def test_a_worse_checkpoint_than_random_is_refused_whatever_the_unigram_entropy() -> None:
    result = gates.step0_gate(
        step0=step0(LN_V - 0.9),
        random_init_loss=LN_V,
        unigram=LN_V,
        vocab_size=V,
        from_init=True,
        has_reference=False,
    )
    assert result.verdict == "no"


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [([5, 0, 0], 0.0), ([1, 1, 1, 1], math.log(4)), ([3, 1], 0.5623351446188083)],
)
def test_unigram_entropy(counts: list[int], wanted: float) -> None:
    assert gates.unigram_entropy(np.array(counts)) == pytest.approx(wanted)


def test_timing_adds_up_and_changes_nothing_else() -> None:
    bare = gates.split_gate(num_shared=0, num_train=1, num_validation=1, num_tokens=128)
    result = timed(lambda: bare)
    assert result.seconds > 0
    assert {**result.to_dict(), "seconds": 0} == {**bare.to_dict(), "seconds": 0}


def test_what_json_has_no_word_for_is_spelled() -> None:
    assert json_value({"a": [math.nan, 1.5], "b": (math.inf,)}) == {"a": ["nan", 1.5], "b": ["inf"]}
    assert (verdict_of(True), verdict_of(False)) == ("yes", "no")
