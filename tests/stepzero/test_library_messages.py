"""What libraries say while a model is loaded is read, or ends the run."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import pytest

from apr.stepzero.gate import GateResult
from apr.stepzero.messages import KNOWN, Captured, capturing, classify, messages_gate
from apr.stepzero.registry import BY_ID

NEWLY = "Some weights of LlamaForCausalLM were not initialized and are newly initialized: ['lm_head.weight']"


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        (
            "The given NumPy array is not writable, but non-writable tensors are not supported",
            "weights.memory",
        ),
        ("`torch_dtype` is deprecated! Use `dtype` instead!", ""),
        ("index_add_cuda_ does not have a deterministic implementation", "model.repeatable"),
        ("CUDA initialization: the driver is too old", "model.placement"),
        ("Can't initialize NVML", "model.placement"),  # however it is spelled
        ("torch._C lru_cache wrapped", ""),
        (NEWLY, None),
        ("No checkpoint found, starting from scratch", None),
        ("Setting `pad_token_id` to `eos_token_id`", None),
        ("", None),
    ],
)
def test_a_message_is_known_or_not(text: str, gate: str | None) -> None:
    assert classify(text) == gate


def test_what_discharges_a_message_is_a_gate() -> None:
    assert {gate for _, gate in KNOWN if gate} <= BY_ID.keys()


def test_warnings_and_log_lines_are_collected() -> None:
    with capturing() as captured:
        warnings.warn("the array is non-writable", UserWarning, stacklevel=1)
        logging.getLogger("torch.distributed").warning("no %s found", "checkpoint")
        logging.getLogger("somebody.else").error("it failed")
        logging.getLogger("torch").info("all is well")
        warnings.warn("x is deprecated", FutureWarning, stacklevel=1)
    found = {(message.source, message.text): message.judged_by for message in captured.messages}
    assert found == {
        ("torch.distributed", "no checkpoint found"): None,
        ("somebody.else", "it failed"): None,
        ("warning", "UserWarning: the array is non-writable"): "weights.memory",
        ("warning", "FutureWarning: x is deprecated"): "",
    }


def test_a_library_that_keeps_its_log_to_itself_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("transformers")
    monkeypatch.setattr(logger, "propagate", False)
    with capturing() as captured:
        logging.getLogger("transformers.modeling_utils").warning(NEWLY)
    assert [message.text for message in captured.messages] == [NEWLY]


def test_a_message_is_entered_once_and_on_one_line() -> None:
    captured = Captured()
    for text in ("a\n  b", "a b", "a  b " + "c" * 900):
        captured.add("x", text)
    first, second = captured.messages
    assert (first.text, len(second.text)) == ("a b", 300)


def test_what_was_before_is_after() -> None:
    names = ("", "torch", "transformers", "huggingface_hub")
    handlers, filters = [list(logging.getLogger(name).handlers) for name in names], list(warnings.filters)
    block = capturing()
    captured = block.__enter__()
    warnings.warn("said before the end", UserWarning, stacklevel=1)
    assert not block.__exit__(ValueError, ValueError("in the middle"), None)
    assert [list(logging.getLogger(name).handlers) for name in names] == handlers
    assert list(warnings.filters) == filters
    assert [message.text for message in captured.messages] == ["UserWarning: said before the end"]


@pytest.mark.parametrize(
    ("texts", "figure"),
    [
        ((), 0),
        (("the array is non-writable", "x is deprecated"), 0),
        ((NEWLY,), 1),
        (("x is deprecated", NEWLY, "No checkpoint found"), 2),
    ],
)
def test_a_message_that_nobody_has_read_is_a_no(texts: tuple[str, ...], figure: int) -> None:
    captured = Captured()
    for text in texts:
        captured.add("transformers", text)
    gate = messages_gate(captured, [judged("weights.memory")])
    assert (gate.id, gate.figure, gate.limit) == ("log.messages", figure, 0)
    assert gate.verdict == ("no" if figure else "yes")
    assert [item["text"] for item in gate.facts["messages"]] == list(texts)
    assert (NEWLY in gate.cause) is bool(figure)
    if figure:
        assert "transformers" in gate.cause


def judged(gate_id: str, verdict: Any = "yes") -> GateResult:
    return GateResult(id=gate_id, claim="", verdict=verdict, figure=0, limit=0)


@pytest.mark.parametrize(
    ("gates", "verdict"),
    [
        ([judged("model.repeatable")], "yes"),
        ([judged("model.repeatable", "not known")], "no"),
        ([], "no"),
        ([judged("file.config", "no")], "yes"),  # the refusal says enough
    ],
)
def test_a_gate_discharges_a_message_only_by_a_yes(gates: list[GateResult], verdict: str) -> None:
    captured = Captured()
    captured.add("torch", "scatter_add does not have a deterministic implementation")
    assert messages_gate(captured, gates).verdict == verdict


def test_a_deprecation_that_did_something_is_read() -> None:
    assert classify("tie_word_embeddings=False is deprecated and ignored; lm_head newly initialized") is None
    assert classify("FutureWarning: the argument old is deprecated, use new") == ""
