"""What any causal model must do, asked of a decoder and of functions that do not do it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from apr.model.adapters import hidden_states
from apr.model.initialise import random_decoder
from apr.stepzero.behaviour import BEHAVIOUR_TOKENS, ROW_TOLERANCE, behaviour_gates, behaviour_probe
from apr.stepzero.gate import GateResult
from apr.stepzero.probe import plain_probe_ids
from tiny import CONFIG, QWEN_LIKE

pytestmark = pytest.mark.usefixtures("one_thread")
IDS = plain_probe_ids(CONFIG.vocab_size)[: 2 * BEHAVIOUR_TOKENS]
Forward = Callable[[Tensor], Tensor]


@pytest.fixture(scope="module")
def healthy() -> Forward:
    return hidden_states(random_decoder(CONFIG, 0), torch.float32)


def refused(forward: Forward, dtype: str = "fp32") -> dict[str, GateResult]:
    """The gates that say no, by id."""
    gates = behaviour_gates(forward, IDS, dtype)
    assert [gate.id for gate in gates] == ["model.repeatable", "model.causal", "model.rows"]
    assert all(bool(gate.cause) is (gate.verdict == "no") for gate in gates)
    return {gate.id: gate for gate in gates if gate.verdict != "yes"}


@pytest.mark.parametrize("config", [CONFIG, QWEN_LIKE], ids=lambda config: config.family)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_a_decoder_behaves(config: object, dtype: torch.dtype) -> None:
    forward = hidden_states(random_decoder(config, 0), dtype)
    assert refused(forward, "fp32" if dtype == torch.float32 else "bf16") == {}


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 9])
def test_a_model_of_few_positions_can_be_judged(healthy: Forward, limit: int) -> None:
    gates = behaviour_gates(healthy, plain_probe_ids(CONFIG.vocab_size, limit), "fp32")
    assert {gate.verdict for gate in gates} == {"yes"}


def test_chance_in_the_model_is_seen(healthy: Forward) -> None:
    torch.manual_seed(0)
    found = refused(lambda ids: torch.nn.functional.dropout(healthy(ids), 0.01))
    assert "model.repeatable" in found
    assert found["model.repeatable"].figure > 0


def test_the_last_bit_is_enough(healthy: Forward) -> None:
    calls = []

    def forward(ids: Tensor) -> Tensor:
        calls.append(1)
        out = healthy(ids)
        if len(calls) == 2:
            out[0, 7, 3] = torch.nextafter(out[0, 7, 3], torch.tensor(torch.inf))
        return out

    assert list(refused(forward)) == ["model.repeatable"]


FUTURES: dict[str, Callable[[Tensor], Tensor]] = {
    "the mean of all positions": lambda out: out + 1e-6 * out.mean(1, keepdim=True),
    "the next position": lambda out: out + 1e-6 * out.roll(-1, 1),
    "everything backwards": lambda out: out.flip(1),
}


@pytest.mark.parametrize("case", FUTURES)
def test_a_look_into_the_future_is_seen(healthy: Forward, case: str) -> None:
    gate = refused(lambda ids: FUTURES[case](healthy(ids)))["model.causal"]
    assert "mask" in gate.cause
    assert gate.figure > gate.limit == 0
    assert gate.facts["num_positions"] == BEHAVIOUR_TOKENS * 3 // 4


@pytest.mark.parametrize("case", ["a constant", "the first token only"])
def test_a_model_that_does_not_read_is_seen(healthy: Forward, case: str) -> None:
    def forward(ids: Tensor) -> Tensor:
        out = healthy(ids[:, :1]).expand(-1, ids.shape[1], -1)
        return out * 0 + 1 if case == "a constant" else out

    found = refused(forward)
    assert list(found) == ["model.causal"]
    assert "read" in found["model.causal"].cause
    assert found["model.causal"].facts["change_behind"] == 0


ROWS: dict[str, Callable[[Tensor], Tensor]] = {
    "rows are mixed": lambda out: out + 0.1 * out.mean(0, keepdim=True),
    "only the first is computed": lambda out: out[:1].expand(len(out), -1, -1),
    "the last is another's": lambda out: out.flip(0),
    "NaN in the second": lambda out: torch.cat([out[:1], out[1:] * torch.nan]),
}


@pytest.mark.parametrize("case", ROWS)
def test_rows_that_influence_each_other_are_seen(healthy: Forward, case: str) -> None:
    def forward(ids: Tensor) -> Tensor:
        out = healthy(ids)
        return ROWS[case](out) if len(ids) > 1 else out

    found = refused(forward)
    assert list(found) == ["model.rows"]
    assert not found["model.rows"].figure <= ROW_TOLERANCE["fp32"] == found["model.rows"].limit


@pytest.mark.parametrize(
    ("share", "dtype", "holds"),
    [(5e-4, "fp32", True), (2e-3, "fp32", False), (0.2, "bf16", True), (0.3, "bf16", False)],
)
def test_the_limit_is_a_share_of_the_outputs_size(
    healthy: Forward, share: float, dtype: str, holds: bool
) -> None:
    for scale in (1.0, 1e4):

        def forward(ids: Tensor, scale: float = scale) -> Tensor:
            out = healthy(ids) * scale
            if len(ids) > 1:
                out[0, 0, 0] += share * float(healthy(ids[:1]).double().std()) * scale
            return out

        assert (refused(forward, dtype) == {}) is holds


@given(st.lists(st.integers(0, 5), min_size=1, max_size=120))
def test_the_probe_changes_every_id_of_the_end_and_none_before(ids: list[int]) -> None:
    probe = behaviour_probe(ids)
    same = (probe.first == probe.other_end)[0]
    assert probe.first.shape == probe.other_end.shape == probe.second.shape
    assert 1 <= probe.first.shape[1] <= BEHAVIOUR_TOKENS
    assert same[: probe.shared].all()
    assert not same[probe.shared :].any()
    assert probe.shared < len(same)
    assert 0 <= int(probe.other_end.min()) <= int(probe.other_end.max()) <= max(1, *ids)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_outputs_that_are_not_finite_are_named_and_nothing_else(healthy: Forward, value: float) -> None:
    (gate,) = behaviour_gates(lambda ids: healthy(ids) + value, IDS, "fp32")
    assert (gate.id, gate.verdict, gate.figure) == ("model.repeatable", "no", "not finite")
