"""The defects that FALSIFY-APR-PRETRAIN-ARCH-001 to -010 and CUDA-001 are there for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from apr.aprfile import foreign, metadata
from apr.arch.presets import PRESETS
from apr.convert import hf_config, importer
from apr.model import decoder, initialise, load
from apr.model.initialise import random_decoder
from apr.stepzero import gates
from apr.tokenizer.engine import TextTokenizer
from apr.train import certify, inputs
from apr.train.errors import VocabularyMismatch
from contracts.controls.init_controls import attribute, tolerances_off
from contracts.controls.plant import ARCH, Control, Plant, allocate_first, fall_back_to_random, fill_in
from contracts.scene import Scene
from tiny import CONFIG

# Every field of the preset, with a value that a wrong preset has had or might have.
_WRONG_PRESET: dict[str, Any] = {
    "tie_word_embeddings": False,  # the ancestor's
    "family": "llama",
    "vocab_size": 151643,
    "hidden_size": 1024,
    "intermediate_size": 4864 * 2,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 14,
    "head_dim": 128,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e4,
    "hidden_act": "gelu",
    "attention_bias": False,
    "sliding_window": 32768,
}
# What loaders fill in where they do not look at the file.
_DEFAULTS: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 4,  # as many as heads
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "max_position_embeddings": 32768,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}


def _preset(name: str, **changes: Any) -> Plant:
    return lambda patch, scene: patch.setitem(PRESETS, name, replace(PRESETS[name], **changes))


def _field_from_default(field: str) -> Plant:
    """The model is built with a default in place of the file's field."""
    original = load.read_facts

    def blind(file: Any) -> Any:
        facts = original(file)
        return replace(facts, config=replace(facts.config, **{field: _DEFAULTS[field]}))

    return attribute(load, "read_facts", blind)


def _repeat(self: Tensor, repeats: int, dim: int | None = None) -> Tensor:
    """Heads 0 1 0 1 ... where 0 0 ... 1 1 ... is meant."""
    assert dim == 1
    return self.repeat(1, repeats, 1, 1)


def _neighbours(x_BNTH: Tensor, cos_TH: Tensor, sin_TH: Tensor) -> Tensor:
    """Rotation of pairs (2i, 2i + 1) where (i, i + H/2) is meant."""
    half = cos_TH.shape[-1] // 2
    cos, sin = (table[:, :half].repeat_interleave(2, dim=-1) for table in (cos_TH, sin_TH))
    turned = torch.stack((-x_BNTH[..., 1::2], x_BNTH[..., 0::2]), dim=-1).flatten(-2)
    return x_BNTH * cos + turned * sin


def _no_rotation(x_BNTH: Tensor, cos_TH: Tensor, sin_TH: Tensor) -> Tensor:
    return x_BNTH


def _sees_the_future(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    attend = torch.nn.functional.scaled_dot_product_attention

    def open_to_all(*arguments: Any, attn_mask: Any = None, is_causal: bool = False) -> Tensor:
        return attend(*arguments, attn_mask=attn_mask)

    patch.setattr(torch.nn.functional, "scaled_dot_product_attention", open_to_all)


def _without_bias(self: Any, x: Tensor) -> Tensor:
    return torch.nn.functional.linear(x, self.weight.to(x.dtype))


def _fixed_epsilon(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    original = decoder.RMSNorm.__init__
    patch.setattr(decoder.RMSNorm, "__init__", lambda self, size, eps: original(self, size, 1e-2))


def _equal_sizes_demanded(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """With a checkpoint too, the tokenizer must have as many entries as the model has rows."""
    original = inputs.Inputs._check_vocabulary

    def strict(self: Any, spec: Any) -> Any:
        size = original(self, spec)
        if size is not None and size != self.config.vocab_size:
            raise VocabularyMismatch(tokenizer="", tokenizer_size=size, limit="exactly")
        return size

    patch.setattr(inputs.Inputs, "_check_vocabulary", strict)


class _BaseOnly(TextTokenizer):
    """Counts the vocabulary without the added tokens above it."""

    def __init__(self, definition: Any) -> None:
        super().__init__(definition)
        self.vocab_size, self.max_id = 300, 299


class _CountsOnly(TextTokenizer):
    """Takes the number of entries for the bound of the ids."""

    def __init__(self, definition: Any) -> None:
        super().__init__(definition)
        self.max_id = self.vocab_size - 1


def _hashes_not_compared(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """Nobody asks which tokenizer made the shards."""
    patch.setattr(inputs.Inputs, "_check_dataset", lambda self, dataset: None)
    original = gates.tokenizer_gate

    def trusting(**facts: Any) -> Any:
        return original(**facts | {"shards_sha256": {}})

    patch.setattr(gates, "tokenizer_gate", trusting)


def _bound_only_from_scratch(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """From scratch too, a smaller tokenizer is accepted."""
    original = inputs.VocabularyMismatch

    def relaxed(self: Any, spec: Any) -> Any:
        try:
            return check(self, spec)
        except original as error:
            if error.tokenizer_size > self.config.vocab_size:
                raise
            return error.tokenizer_size

    check = inputs.Inputs._check_vocabulary
    patch.setattr(inputs.Inputs, "_check_vocabulary", relaxed)


def _vocabulary_not_checked(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    patch.setattr(inputs.Inputs, "_check_vocabulary", lambda self, spec: 320)


def _names_not_looked_at(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    patch.setattr(metadata, "refuse_other_architectures", lambda shapes, source: None)


def _always_a_decoder(values: Mapping[str, Any], source: str) -> str:
    return "llama"


def _cuda_ignores_init(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """The builder of one device has no place for a checkpoint."""
    original = certify._Court.build

    def build(self: Any) -> Any:
        if self.compute.device.type == "cuda":
            return random_decoder(CONFIG, 0)
        return original(self)

    patch.setattr(certify._Court, "build", build)


def _rounded_on_cuda(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """The copy on one device is not the file's: it was rounded on the way, and nothing compares the loss."""
    tolerances_off(patch, scene)
    original = certify.load_decoder

    def lossy(file: Any, device: Any) -> Any:
        loaded = original(file, device)
        if device.type == "cuda":
            loaded.decoder.bfloat16().float()
        return loaded

    patch.setattr(certify, "load_decoder", lossy)


_RANDOM = "a checkpoint that does not load is replaced by random weights"
_STRICT = Control(
    defect="with a checkpoint too the sizes must be equal",
    sees="exit code 1|refused before step zero",
    plant=_equal_sizes_demanded,
)

ARCH_CONTROLS: dict[str, tuple[Control, ...]] = {
    ARCH + "001": tuple(
        Control(
            defect=f"the preset has {field} {value}",
            sees=f"{field} is {value!r}",
            plant=_preset("qwen2-0.5b", **{field: value}),
        )
        for field, value in _WRONG_PRESET.items()
    ),
    ARCH + "002": (
        Control(
            defect="another architecture is the default",
            sees="exit code",
            plant=attribute(inputs, "DEFAULT_ARCH", "tiny"),
        ),
        Control(
            defect="the baseline is untied",
            sees="tie_word_embeddings is False",
            plant=_preset("llama-370m", tie_word_embeddings=False),
        ),
        Control(
            defect="the baseline has another epsilon",
            sees="rms_norm_eps is 1e-06",
            plant=_preset("llama-370m", rms_norm_eps=1e-6),
        ),
        Control(
            defect="random weights have another spread",
            sees="starts at",
            plant=attribute(initialise, "_STD", 0.021),
        ),
    ),
    ARCH + "003": (
        *(
            Control(
                defect=f"{field} is a default and not the file's",
                sees="nothing varied: (exit code 1|theta|max_position|rms_norm)",
                plant=_field_from_default(field),
            )
            for field in _DEFAULTS
        ),
        Control(
            defect="missing fields get defaults",
            sees="the command exited 0|refused as",
            plant=fill_in(_DEFAULTS, metadata, foreign),
        ),
    ),
    ARCH + "004": (
        Control(
            defect="key-value heads are repeated in the wrong order",
            sees="cosine with multi-head attention",
            plant=lambda patch, scene: patch.setattr(Tensor, "repeat_interleave", _repeat),
        ),
        Control(
            defect="rope turns neighbours",
            sees="with transformers",
            plant=attribute(decoder, "rotate", _neighbours),
        ),
        Control(
            defect="rope is left out",
            sees="with transformers",
            plant=attribute(decoder, "rotate", _no_rotation),
        ),
        Control(defect="attention sees the future", sees="with transformers", plant=_sees_the_future),
        Control(
            defect="biases are left out",
            sees="with transformers",
            plant=attribute(decoder.Linear, "forward", _without_bias),
        ),
        Control(defect="the norms have a fixed epsilon", sees="with transformers", plant=_fixed_epsilon),
    ),
    ARCH + "005": (
        _STRICT,
        Control(
            defect="added tokens are not counted",
            sees="compared",
            plant=attribute(inputs, "TextTokenizer", _BaseOnly),
        ),
    ),
    ARCH + "006": (
        Control(
            defect="shards of any tokenizer are taken",
            sees="the command exited 0",
            plant=_hashes_not_compared,
        ),
        Control(
            defect="from scratch too a smaller tokenizer is taken",
            sees="the command exited 0",
            plant=_bound_only_from_scratch,
        ),
        Control(defect="a model is built first", sees="allocated before the refusal", plant=allocate_first),
    ),
    ARCH + "007": (
        Control(
            defect="tensor names are not looked at", sees="lacks 'an encoder", plant=_names_not_looked_at
        ),
        Control(
            defect="every config is taken for a decoder's",
            sees="import: ",
            plant=attribute(hf_config, "_family", _always_a_decoder),
        ),
        Control(defect=_RANDOM, sees="the command exited 0", plant=fall_back_to_random),
        Control(defect="a model is built first", sees="allocated before the refusal", plant=allocate_first),
    ),
    ARCH + "009": (_STRICT,),
    ARCH + "010": (
        Control(
            defect="entries are counted and ids are not looked at",
            sees="refused as APR226, not as APR621",  # it trains, and only its checkpoint cannot be written
            plant=attribute(inputs, "TextTokenizer", _CountsOnly),
        ),
        Control(
            defect="the vocabulary is not checked", sees="exited 0|refused as", plant=_vocabulary_not_checked
        ),
        Control(
            defect="import does not check it",
            sees="import: ",
            plant=attribute(importer, "_require_rows", lambda tokenizer, config: None),
        ),
    ),
    ARCH + "CUDA-001": (
        Control(
            defect="the CUDA builder ignores the checkpoint", sees="did not come to", plant=_cuda_ignores_init
        ),
        Control(defect="weights on CUDA are rounded", sees="is not the file's", plant=_rounded_on_cuda),
    ),
}
