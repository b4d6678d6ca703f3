"""What is in memory is held against digests: every value, every name, every tie."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from apr.stepzero import memory
from apr.stepzero.gate import GateResult
from apr.stepzero.memory import (
    STORED,
    head_shares_storage,
    memory_digests,
    memory_gate,
    tensor_digest,
    values_gate,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- digests -------------------------------------------------------------------------------------


@given(arrays(np.float32, st.integers(1, 40), elements=st.floats(width=32)))
def test_the_digest_is_of_the_bytes_as_a_file_stores_them(value: np.ndarray) -> None:
    """Of any fp32 at all: NaN, infinities and subnormals included."""
    assert tensor_digest(torch.from_numpy(value.copy())) == sha(value.astype("<f4").tobytes())


@pytest.mark.parametrize("stored", ["F16", "BF16"])
def test_a_narrow_type_is_hashed_as_it_is_stored(stored: str) -> None:
    narrow = values(7, 5).to(STORED[stored])
    content = narrow.view(torch.int16).numpy().tobytes()
    assert tensor_digest(narrow.float(), stored) == sha(content)
    assert tensor_digest(narrow, stored) == sha(content)


@pytest.mark.parametrize("stored", ["F16", "BF16"])
@pytest.mark.parametrize("at", [0, 17, 34])
def test_a_value_that_the_stored_type_has_not_cannot_come_from_there(stored: str, at: int) -> None:
    value = values(7, 5).to(STORED[stored]).float()
    value.view(-1)[at] = value.view(-1)[at] * (1 + 2**-20)
    assert tensor_digest(value, stored) == "inexact"


def test_every_piece_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    value = values(50)
    whole = tensor_digest(value)
    monkeypatch.setattr(memory, "_PIECE", 7)
    assert tensor_digest(value) == whole
    value[49] += 1
    assert tensor_digest(value) != whole
    narrow = values(50).bfloat16().float()
    narrow[49] *= 1 + 2**-20
    assert tensor_digest(narrow, "BF16") == "inexact"


def test_zeros_of_both_signs_differ_and_layout_does_not() -> None:
    assert tensor_digest(torch.tensor([0.0])) != tensor_digest(torch.tensor([-0.0]))
    value = values(6, 4)
    assert tensor_digest(value.T) == tensor_digest(value.T.contiguous()) != tensor_digest(value)


def test_every_parameter_is_hashed_in_its_stored_type() -> None:
    found = memory_digests(
        {"a": values(3, 4).half().float(), "b": values(500), "c": values(3)}, {"a": "F16", "c": "BF16"}
    )
    assert list(found) == ["b", "a", "c"]  # the largest first
    assert found["a"] == sha(values(3, 4).half().view(torch.int16).numpy().tobytes())
    assert found["b"] == tensor_digest(values(500))
    assert found["c"] == "inexact"


# --- weights.memory ------------------------------------------------------------------------------


def judge(**changes: Any) -> GateResult:
    given = {"expected": {"a": "1", "b": "2", "c": "3"}, "found": {"a": "1", "b": "2", "c": "3"}}
    return memory_gate(**{**given, "num_bytes": 12, "tied": True, "head_is_embedding": True, **changes})


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_the_files_is_a_yes(tied: bool) -> None:
    gate = judge(tied=tied, head_is_embedding=tied)
    assert (gate.id, gate.verdict, gate.figure, gate.limit, gate.cause) == ("weights.memory", "yes", 3, 3, "")
    assert gate.facts == {"num_hashed_bytes": 12, "differing": [], "tied": tied, "head_is_embedding": tied}


@pytest.mark.parametrize(
    ("found", "differing", "figure"),
    [
        ({"a": "1", "b": "x", "c": "3"}, ["b"], 2),
        ({"a": "1", "b": "inexact", "c": "x"}, ["b", "c"], 1),
        ({"a": "1", "c": "3"}, ["b"], 2),  # not there
        ({"a": "1", "b": "2", "c": "3", "d": "4"}, ["d"], 3),  # nobody's
        ({"a": "2", "b": "1", "c": "3"}, ["a", "b"], 1),  # exchanged
        ({}, ["a", "b", "c"], 0),
    ],
)
def test_a_parameter_that_is_not_the_files_is_named(
    found: dict[str, str], differing: list[str], figure: int
) -> None:
    gate = judge(found=found)
    assert (gate.verdict, gate.figure, gate.facts["differing"]) == ("no", figure, differing)
    assert gate.cause.startswith(differing[0])


@pytest.mark.parametrize(("tied", "shared", "word"), [(True, False, "copy"), (False, True, "share")])
def test_a_tie_is_one_storage_and_nothing_else_is(tied: bool, shared: bool, word: str) -> None:
    gate = judge(tied=tied, head_is_embedding=shared)
    assert (gate.verdict, gate.figure) == ("no", 3)
    assert word in gate.cause


def test_it_can_be_asked_again_under_another_name() -> None:
    gate = judge(gate_id="weights.untouched", claim="they still are")
    assert (gate.id, gate.claim) == ("weights.untouched", "they still are")


def test_one_storage_is_one_storage() -> None:
    embedding = values(6, 4)
    assert head_shares_storage(embedding, embedding)
    assert not head_shares_storage(embedding, embedding.clone())
    assert not head_shares_storage(embedding, embedding[:3])


# --- weights.values ------------------------------------------------------------------------------


def judge_values(*accepted: str, **changes: Tensor) -> GateResult:
    parameters = {"m.weight": values(4, 3), "n.weight": values(4, 3, seed=1), "norm.weight": torch.ones(3)}
    parameters |= {name.replace("_", "."): value for name, value in changes.items()}
    return values_gate(parameters, memory_digests(parameters, {}), accepted)


def test_ordinary_weights_are_a_yes() -> None:
    """Norms may be all ones, and biases all zeros: so they begin."""
    gate = judge_values(m_bias=torch.zeros(4))
    assert (gate.id, gate.verdict, gate.figure, gate.limit) == ("weights.values", "yes", 0, 0)
    assert gate.facts == {"findings": [], "accepted": []}


SUSPICIOUS: dict[str, tuple[str, dict[str, Tensor]]] = {
    "a matrix of zeros": ("zero", {"m_weight": torch.zeros(4, 3)}),
    "a norm of zeros": ("zero", {"norm_weight": torch.zeros(3)}),
    "one value everywhere": ("constant", {"m_weight": torch.full((4, 3), 0.02)}),
    "one matrix twice": ("duplicated", {"n_weight": values(4, 3)}),
}


@pytest.mark.parametrize("case", SUSPICIOUS)
def test_bytes_that_no_training_leaves_behind_are_a_no(case: str) -> None:
    rule, changes = SUSPICIOUS[case]
    gate = judge_values(**changes)
    assert (gate.verdict, gate.figure, len(gate.facts["findings"])) == ("no", 1, 1)
    assert next(iter(changes)).replace("_", ".") in gate.cause
    for other in ("zero", "constant", "duplicated"):
        verdict = judge_values(other, **changes).verdict
        assert verdict == ("yes" if other == rule else "no")
    assert judge_values(rule, **changes).facts == {"findings": gate.facts["findings"], "accepted": [rule]}


def test_what_is_accepted_hides_nothing_else() -> None:
    gate = judge_values("zero", m_weight=torch.zeros(4, 3), n_weight=torch.ones(4, 3))
    assert (gate.verdict, gate.figure) == ("no", 1)
    assert gate.cause.endswith("n.weight is 1")
    assert len(gate.facts["findings"]) == 2


def test_one_nan_is_not_a_constant() -> None:
    spoilt = torch.zeros(4, 3)
    spoilt[1, 1] = torch.nan
    assert judge_values(m_weight=spoilt).verdict == "yes"  # the loader and weights.memory judge that
