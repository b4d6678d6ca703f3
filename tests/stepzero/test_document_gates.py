"""The gates of a document mask, asked of a decoder with one, and of masks that are nearly right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from apr.data.documents import document_numbers
from apr.model.adapters import hidden_states
from apr.model.initialise import random_decoder
from apr.stepzero.behaviour import Forward
from apr.stepzero.documents import (
    ALONE_TOLERANCE,
    WindowDocuments,
    alone_gate,
    boundaries_gate,
    isolation_gate,
)
from apr.stepzero.gate import GateResult
from apr.stepzero.probe import plain_probe_ids
from tiny import CONFIG

pytestmark = pytest.mark.usefixtures("one_thread")
EOS = 3
IDS = plain_probe_ids(CONFIG.vocab_size)[:48]
Numbers = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def forwards() -> Callable[..., Forward]:
    decoder = random_decoder(CONFIG, 0)

    def make(change: Numbers | None, dtype: torch.dtype = torch.float32) -> Forward:
        def documents_of(ids: Tensor) -> Tensor:
            assert change is not None
            return torch.from_numpy(change(document_numbers(ids.numpy(), EOS)))

        return hidden_states(decoder, dtype, None if change is None else documents_of)

    return make


def judge(forwards: Callable[..., Forward], change: Numbers | None, lengths: Sequence[int]) -> GateResult:
    return isolation_gate(forwards(change), forwards(None), IDS, EOS, lengths)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("lengths", [(6,), (48, 7), (48, 512)], ids=str)
def test_a_masked_decoder_isolates_its_documents(
    forwards: Callable[..., Forward], lengths: tuple[int, ...], dtype: torch.dtype
) -> None:
    gate = isolation_gate(forwards(np.copy, dtype), forwards(None, dtype), IDS, EOS, lengths)
    assert (gate.verdict, gate.figure, gate.limit, gate.cause) == ("yes", 0.0, 0, "")
    assert gate.facts["lengths"] == sorted(lengths)
    assert gate.facts["change_without_mask"] > 0
    assert gate.facts["separator_id"] == EOS


def late(numbers: np.ndarray) -> np.ndarray:
    return np.concatenate([numbers[..., :1], numbers[..., :-1]], axis=-1)


def early(numbers: np.ndarray) -> np.ndarray:
    return np.concatenate([numbers[..., 1:], numbers[..., -1:]], axis=-1)


LEAKS: dict[str, Numbers | None] = {
    "no mask": None,
    "one document": np.zeros_like,
    "one token late": late,
    "the second boundary is lost": lambda numbers: np.minimum(numbers, 1),
    "the third document joins the first": lambda numbers: numbers % 2,
    "only short windows": lambda numbers: numbers * (numbers.shape[-1] < 64),
}


@pytest.mark.parametrize("case", LEAKS)
def test_a_leak_into_another_document_is_seen(forwards: Callable[..., Forward], case: str) -> None:
    gate = judge(forwards, LEAKS[case], (48, 96))
    assert gate.verdict == "no"
    assert gate.figure > gate.limit == 0
    assert "another document" in gate.cause


def test_a_separator_that_belongs_to_the_next_document_is_seen(forwards: Callable[..., Forward]) -> None:
    gate = judge(forwards, early, (48,))
    assert (gate.verdict, gate.figure) == ("no", 0.0)
    assert "separator" in gate.cause


def test_where_nothing_is_read_nothing_is_shown(forwards: Callable[..., Forward]) -> None:
    """A model that looks only at the token itself leaks nothing, masked or not."""
    alone = forwards(lambda numbers: np.arange(numbers.size, dtype=np.int32).reshape(numbers.shape))
    gate = isolation_gate(forwards(np.copy), alone, IDS, EOS, (48,))
    assert gate.verdict == "no"
    assert "nothing is shown" in gate.cause


def test_outputs_that_are_not_finite_are_a_leak(forwards: Callable[..., Forward]) -> None:
    healthy = forwards(np.copy)
    gate = isolation_gate(lambda ids: healthy(ids) * torch.nan, forwards(None), IDS, EOS, (48,))
    assert gate.verdict == "no"


def test_a_window_too_short_for_three_documents_is_not_judged(forwards: Callable[..., Forward]) -> None:
    assert judge(forwards, np.copy, (2, 5)).verdict == "not known"


WINDOW = WindowDocuments(
    role="training",
    index=7,
    found=np.array([0, 0, 0, 1, 2, 2, 2, 2], dtype=np.int32),
    tokens=np.array([5, 6, EOS, EOS, 8, 9, EOS], dtype=np.uint32),  # the eighth is padding
    starts=np.array([3, 4]),
)


def test_the_boundaries_of_the_dataset_are_accepted() -> None:
    gate = boundaries_gate([WINDOW, replace(WINDOW, starts=np.array([4]))], EOS)
    assert (gate.verdict, gate.figure, gate.cause) == ("yes", 0, "")
    assert gate.facts == {"num_windows": 2, "num_boundaries": 4, "separator_id": EOS}


WRONG: dict[str, tuple[list[int] | None, str]] = {
    "none at all": (None, "without the documents"),
    "one late": ([0, 0, 0, 0, 1, 2, 2, 2], "does not end before its token 3"),
    "one early": ([0, 0, 1, 2, 2, 2, 2, 2], "ends before its token 2"),
    "one lost": ([0, 0, 0, 1, 1, 1, 1, 1], "does not end before its token 4"),
    "one too many": ([0, 0, 0, 1, 2, 3, 3, 3], "ends before its token 5"),
    "a number twice": ([0, 0, 0, 1, 0, 0, 0, 0], "have one number"),
}


@pytest.mark.parametrize("case", WRONG)
def test_other_boundaries_are_named(case: str) -> None:
    numbers, says = WRONG[case]
    found = None if numbers is None else np.array(numbers, dtype=np.int32)
    gate = boundaries_gate([WINDOW, replace(WINDOW, found=found)], EOS)
    assert (gate.verdict, gate.figure, gate.limit) == ("no", 1, 0)
    assert says in gate.cause
    assert "window 7 of training" in gate.cause


def test_a_document_that_begins_behind_no_separator_is_named() -> None:
    gate = boundaries_gate([replace(WINDOW, starts=np.array([3, 5]))], EOS)
    assert gate.verdict == "no"
    assert "begins at token 5 behind no separator" in gate.cause


@pytest.mark.parametrize(("gap", "verdict"), [(0.0, "yes"), (0.9, "yes"), (1.1, "no"), (float("nan"), "no")])
def test_a_window_scores_what_its_documents_score(gap: float, verdict: str) -> None:
    gate = alone_gate(2.0 + gap * ALONE_TOLERANCE, 2.0, 3)
    assert (gate.verdict, gate.limit, bool(gate.cause)) == (verdict, ALONE_TOLERANCE, verdict == "no")
    assert gate.facts["num_documents"] == 3
