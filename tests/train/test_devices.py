"""Only `auto` chooses, and it says what and why."""

from __future__ import annotations

import pytest
import torch

from apr.train import device as device_module
from apr.train.device import check_device_word, resolve_compute
from apr.train.errors import DeviceAbsent, DeviceUnknown

WORDS = ["cpu", "cuda", "auto", "cuda:0", "cuda:9", "cuda:10", "cuda:15"]


@pytest.mark.parametrize("word", WORDS)
def test_the_words_it_takes(word: str) -> None:
    check_device_word(word)


@pytest.mark.parametrize(
    "word",
    ["", "gpu", "CPU", "cuda:", "cuda:16", "cuda:00", "cuda:-1", "cpu:0", "cpu ", "cpu\n", "cuda:1\n", "mps"],
)
def test_the_words_it_does_not(word: str) -> None:
    with pytest.raises(DeviceUnknown) as caught:
        resolve_compute(word, "auto")
    assert caught.value.device == word


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without CUDA, with a processor without bf16."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device_module, "cpu_flags", lambda: frozenset({"avx2"}))


@pytest.mark.usefixtures("machine")
def test_a_named_device_does_not_fall_back() -> None:
    for word in ("cuda", "cuda:3"):
        with pytest.raises(DeviceAbsent) as caught:
            resolve_compute(word, "auto")
        assert caught.value.device == word


@pytest.mark.usefixtures("machine")
def test_auto_falls_back_and_says_so() -> None:
    compute = resolve_compute("auto", "auto")
    assert (compute.device.type, compute.dtype, compute.dtype_name) == ("cpu", torch.float32, "fp32")
    assert "no CUDA" in compute.note
    assert "no bf16" in compute.note


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(("dtype", "wanted"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_what_is_named_is_taken_and_needs_no_word(dtype: str, wanted: torch.dtype) -> None:
    compute = resolve_compute("cpu", dtype)
    assert (compute.dtype, compute.dtype_name, compute.note) == (wanted, dtype, "")


def test_auto_takes_bf16_where_the_processor_has_it(machine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "cpu_flags", lambda: frozenset({"avx512_bf16"}))
    assert resolve_compute("cpu", "auto").dtype_name == "bf16"


def test_a_cuda_device_beyond_the_last_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    with pytest.raises(DeviceAbsent) as caught:
        resolve_compute("cuda:2", "fp32")
    assert "2 CUDA devices" in caught.value.reason
    assert resolve_compute("cuda:1", "fp32").device == torch.device("cuda:1")
