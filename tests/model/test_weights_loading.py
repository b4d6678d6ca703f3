"""Loading is a bijection, and what is in memory is the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from apr.aprfile.metadata import ModelFacts, model_metadata
from apr.aprfile.reader import open_apr
from apr.aprfile.writer import TensorSource, write_apr
from apr.arch.config import TransformerConfig
from apr.arch.inventory import EMBEDDING, HEAD, cover, inventory
from apr.arch.presets import PRESETS
from apr.base.errors import AprError
from apr.model import load
from apr.model.errors import TensorDiffers, TensorNotFilled, TensorsNotCovered
from apr.model.load import describe_coverage, load_decoder
from tiny import CONFIG, QWEN_LIKE, make_model, make_weights

pytestmark = pytest.mark.usefixtures("one_thread")
Tensors = dict[str, np.ndarray]


def stored_as(dtype: str, value: np.ndarray) -> np.ndarray:
    if dtype == "F16":
        return value.astype(np.float16)
    if dtype == "BF16":
        return torch.from_numpy(value).bfloat16().view(torch.int16).numpy().view(np.uint16)
    return value


def widened(dtype: str, value: np.ndarray) -> torch.Tensor:
    kind = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[dtype]
    return torch.from_numpy(value).to(kind).float()


def write(path: Path, config: TransformerConfig, weights: Tensors, dtype: str = "F32") -> Path:
    sources = [
        TensorSource(name=n, dtype=dtype, shape=v.shape, produce=lambda v=v: stored_as(dtype, v))
        for n, v in weights.items()
    ]
    aliases = {HEAD: EMBEDDING} if config.tie_word_embeddings else {}
    write_apr(path, model_metadata(ModelFacts(config=config)), sources, aliases)
    return path


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("config", [CONFIG, replace(QWEN_LIKE, tie_word_embeddings=False)])
def test_every_parameter_is_its_tensor(tmp_path: Path, config: TransformerConfig, dtype: str) -> None:
    weights = make_weights(config)
    with open_apr(write(tmp_path / "m.apr", config, weights, dtype)) as file:
        loaded = load_decoder(file)
    parameters = dict(loaded.decoder.named_parameters())
    assert parameters.keys() == weights.keys()
    for name, value in weights.items():
        assert torch.equal(parameters[name], widened(dtype, value)), name
        assert parameters[name].requires_grad
    assert loaded.num_tensors == len(inventory(config)) == len(weights)
    assert loaded.num_parameters == sum(value.size for value in weights.values())
    assert loaded.num_compared_bytes == loaded.num_parameters * (4 if dtype == "F32" else 2)


def test_the_decoder_outlives_its_file(tiny_apr: Path) -> None:
    with open_apr(tiny_apr) as file:
        decoder = load_decoder(file).decoder
    assert bool(torch.isfinite(decoder(torch.arange(9)[None])).all())


def test_a_tie_is_one_storage(tmp_path: Path) -> None:
    for tied in (True, False):
        config = replace(CONFIG, tie_word_embeddings=tied)
        with open_apr(write(tmp_path / f"{tied}.apr", config, make_weights(config))) as file:
            decoder = load_decoder(file).decoder
        assert (decoder.head_weight.data_ptr() == decoder.model.embed_tokens.weight.data_ptr()) is tied


def test_quantised_blocks_are_dequantised(tmp_path: Path) -> None:
    """Q4_K in the file: the parameter is what the reader's own dequantisation gives."""
    config = replace(PRESETS["tiny"], hidden_size=256, num_hidden_layers=1, vocab_size=64)
    weights, packed = make_weights(config), "model.layers.0.mlp.gate_proj.weight"
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (weights[packed].size // 256, 144), dtype=np.uint8)
    blocks[:, :4] = np.full((len(blocks), 2), 1e-3, dtype=np.float16).view(np.uint8)
    sources = [
        TensorSource(name=n, dtype="F32", shape=v.shape, produce=lambda v=v: v)
        for n, v in weights.items()
        if n != packed
    ]
    sources.append(
        TensorSource(
            name=packed, dtype="Q4_K", shape=weights[packed].shape, produce=lambda: blocks.reshape(-1)
        )
    )
    write_apr(tmp_path / "m.apr", model_metadata(ModelFacts(config=config)), sources)
    with open_apr(tmp_path / "m.apr") as file:
        loaded = load_decoder(file)
        wanted = torch.from_numpy(file.as_f32(packed).copy())
    found = dict(loaded.decoder.named_parameters())[packed]
    assert torch.equal(found, wanted)
    assert float(found.detach().std()) > 0


@pytest.mark.parametrize(
    ("spoil", "phrase"),
    [
        (lambda w: w.pop("model.layers.1.mlp.up_proj.weight"), "missing model.layers.1.mlp.up_proj.weight"),
        (lambda w: w.update({"model.layers.1.extra.weight": np.ones(3, np.float32)}), "unexpected"),
        (lambda w: w.update({"model.norm.weight": np.ones(63, np.float32)}), "[63], not [64]"),
    ],
    ids=["missing", "left over", "another shape"],
)
def test_a_file_that_does_not_cover_the_model_is_refused(
    tmp_path: Path, spoil: Callable[[Tensors], Any], phrase: str
) -> None:
    weights = make_weights(CONFIG)
    spoil(weights)
    with pytest.raises(AprError) as caught, open_apr(write(tmp_path / "m.apr", CONFIG, weights)) as file:
        load_decoder(file)
    assert caught.value.exit_code == 1


def test_coverage_is_required_whatever_the_metadata_says(tiny_apr: Path) -> None:
    more_layers = replace(CONFIG, num_hidden_layers=3)
    with open_apr(tiny_apr) as file, pytest.raises(TensorsNotCovered) as caught:
        load.require_coverage(more_layers, file)
    assert "and 6 more" in caught.value.differences


def test_differences_are_described_in_one_phrase() -> None:
    shapes = {spec.name: tuple(reversed(spec.shape)) for spec in inventory(CONFIG)}
    said = describe_coverage(cover(inventory(CONFIG), shapes))
    assert said.startswith("model.embed_tokens.weight is [64, 320], not [320, 64], transposed; ")
    assert said.endswith("more shapes differ")


def spoil_copies(
    monkeypatch: pytest.MonkeyPatch, num_values: int, spoil: Callable[[torch.Tensor], Any], fill: bool = True
) -> None:
    """Let every copy of that many values into a tensor be followed by `spoil` of the flat tensor."""
    copy = torch.Tensor.copy_

    def bad_copy(self: torch.Tensor, source: torch.Tensor, *rest: Any) -> torch.Tensor:
        hit = self.numel() == num_values
        if fill or not hit:
            copy(self, source, *rest)
        if hit:
            spoil(self.view(-1))
        return self

    monkeypatch.setattr(torch.Tensor, "copy_", bad_copy)


def test_an_unfilled_parameter_is_caught(tiny_apr: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that does nothing leaves the NaN that was put there before."""
    size = CONFIG.intermediate_size * CONFIG.hidden_size
    spoil_copies(monkeypatch, size, lambda flat: None, fill=False)
    with open_apr(tiny_apr) as file, pytest.raises(TensorNotFilled) as caught:
        load_decoder(file)
    assert caught.value.num_values == size


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_caught(tmp_path: Path, value: float) -> None:
    weights = make_weights(CONFIG)
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = value
    path = make_model(tmp_path / "m.apr", weights=weights, oracle="none")
    with open_apr(path) as file, pytest.raises(TensorNotFilled) as caught:
        load_decoder(file)
    assert (caught.value.tensor, caught.value.num_values) == ("model.layers.1.mlp.up_proj.weight", 1)


def flip_a_bit(flat: torch.Tensor) -> None:
    flat.view(torch.int32)[451] ^= 1


def negate_zero(flat: torch.Tensor) -> None:
    flat[0] = -0.0


def exchange_rows(flat: torch.Tensor) -> None:
    flat[256:384] = flat[256:384].roll(64)


@pytest.mark.parametrize(("fault", "num_values"), [(flip_a_bit, 1), (negate_zero, 1), (exchange_rows, 128)])
def test_memory_that_differs_by_a_bit_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[[torch.Tensor], None], num_values: int
) -> None:
    weights = make_weights(CONFIG)
    weights[EMBEDDING][0, 0] = 0.0
    path = make_model(tmp_path / "m.apr", weights=weights, oracle="none")
    spoil_copies(monkeypatch, weights[EMBEDDING].size, fault)
    with open_apr(path) as file, pytest.raises(TensorDiffers) as caught:
        load_decoder(file)
    assert (caught.value.tensor, caught.value.num_values) == (EMBEDDING, num_values)


def test_views_are_not_copies(tiny_apr: Path) -> None:
    with open_apr(tiny_apr) as file:
        stored = load.stored_tensor(file, EMBEDDING)
        assert stored.data_ptr() == file.array(EMBEDDING).ctypes.data
        assert stored.shape == (CONFIG.vocab_size, CONFIG.hidden_size)
