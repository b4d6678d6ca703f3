"""The import judged by a second reader: transformers' own GGUF loader, on real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from apr.arch.inventory import EMBEDDING, HEAD
from apr.arch.presets import PRESETS
from apr.convert.source import open_source


def by_transformers(path: Path) -> dict[str, torch.Tensor]:
    model = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=torch.float32)
    return model.state_dict()


def require_equal(source, state) -> None:
    for name, tensor in source.tensors.items():
        np.testing.assert_array_equal(tensor.load(), state[name].numpy(), err_msg=name)


@pytest.mark.smollm
@pytest.mark.filterwarnings("default")
def test_every_tensor_of_smollm2_is_the_one_that_transformers_loads(smollm2_gguf):
    source = open_source(str(smollm2_gguf), read_tokenizer=False)
    assert source.config == PRESETS["smollm2-135m"]
    assert len(source.tensors) == 272
    state = by_transformers(smollm2_gguf)
    assert torch.equal(state.pop(HEAD), state[EMBEDDING])
    assert set(state) == set(source.tensors)
    require_equal(source, state)


@pytest.mark.live
@pytest.mark.filterwarnings("default")
def test_every_tensor_of_qwen_is_the_one_that_transformers_loads(qwen_gguf):
    untied = open_source(str(qwen_gguf), tie="no", read_tokenizer=False)
    assert len(untied.tensors) == 291
    state = by_transformers(qwen_gguf)
    assert set(state) == set(untied.tensors)
    require_equal(untied, state)


@pytest.mark.live
def test_the_two_matrices_of_qwen_are_one(qwen_gguf):
    source = open_source(str(qwen_gguf), read_tokenizer=False)
    assert source.config == PRESETS["qwen2-0.5b"]
    assert len(source.tensors) == 290
    figures = source.tie.figures
    assert figures["rms_difference"] == 0.000767
    assert figures["expected_rms_embedding"] == 0.000768  # Q5_0's own; the head's Q8_0 adds 0.000006 to it
    assert figures["smallest_row_cosine"] == pytest.approx(0.998, abs=5e-4)
    assert source.tensors[EMBEDDING].dtype == "Q8_0"
