"""The defects that FALSIFY-APR-PRETRAIN-ARCH-001 to -010 and CUDA-001 are there for, as changes of the program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from apr.aprfile import metadata
from apr.arch.presets import PRESETS
from apr.model import decoder, load
from apr.model.initialise import random_decoder
from apr.stepzero import gates
from apr.stepzero.gate import not_known
from apr.train import certify, certify_tokens, inputs
from apr.train.errors import VocabularyMismatch
from contracts.controls.init_plants import attribute, tolerances_off, unheeded
from contracts.controls.plant import Plant
from contracts.scene import Scene
from tiny import CONFIG

# What loaders fill in where they do not look at the file.
LOADER_DEFAULTS: dict[str, Any] = {
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


def preset(name: str, **changes: Any) -> Plant:
    return lambda patch, scene: patch.setitem(PRESETS, name, replace(PRESETS[name], **changes))


def field_from_default(field: str) -> Plant:
    """The model is built with a default in place of the file's field."""
    original = load.read_facts

    def blind(file: Any) -> Any:
        facts = original(file)
        return replace(facts, config=replace(facts.config, **{field: LOADER_DEFAULTS[field]}))

    return attribute(load, "read_facts", blind)


def repeat(self: Tensor, repeats: int, dim: int | None = None) -> Tensor:
    """Heads 0 1 0 1 ... where 0 0 ... 1 1 ... is meant."""
    assert dim == 1
    return self.repeat(1, repeats, 1, 1)


def sees_the_future(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    attend = torch.nn.functional.scaled_dot_product_attention

    def open_to_all(*arguments: Any, attn_mask: Any = None, is_causal: bool = False) -> Tensor:
        return attend(*arguments, attn_mask=attn_mask)

    patch.setattr(torch.nn.functional, "scaled_dot_product_attention", open_to_all)


def fixed_epsilon(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    original = decoder.RMSNorm.__init__
    patch.setattr(decoder.RMSNorm, "__init__", lambda self, size, eps: original(self, size, 1e-2))


def equal_sizes_demanded(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """With a checkpoint too, the tokenizer must have as many entries as the model has rows."""
    original = inputs.Inputs._check_vocabulary

    def strict(self: Any, spec: Any) -> Any:
        size = original(self, spec)
        if size is not None and size != self.config.vocab_size:
            raise VocabularyMismatch(tokenizer="", tokenizer_size=size, limit="exactly")
        return size

    patch.setattr(inputs.Inputs, "_check_vocabulary", strict)


def hashes_not_compared(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """Nobody asks which tokenizer made the shards."""
    patch.setattr(inputs.Inputs, "_check_dataset", lambda self, dataset: None)
    original = gates.tokenizer_gate

    def trusting(**facts: Any) -> Any:
        return original(**facts | {"shards_sha256": {}})

    patch.setattr(gates, "tokenizer_gate", trusting)


def nobody_reads_the_text(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """Nobody asks which tokenizer made the shards, or what their ids say."""

    def unread(inputs: Any, engine: Any) -> Any:
        return not_known("tokens.sample", "documents give their ids again", "nobody looked")

    unheeded(hashes_not_compared)(patch, scene)
    patch.setattr(certify_tokens, "_sample", unread)


def bound_only_from_scratch(patch: pytest.MonkeyPatch, scene: Scene) -> None:
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


def vocabulary_not_checked(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    patch.setattr(inputs.Inputs, "_check_vocabulary", lambda self, spec: 320)


def names_not_looked_at(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    patch.setattr(metadata, "refuse_other_architectures", lambda shapes, source: None)


def always_a_decoder(values: Mapping[str, Any], source: str) -> str:
    return "llama"


def cuda_ignores_init(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """The builder of one device has no place for a checkpoint."""
    original = certify.Court.build

    def build(self: Any) -> Any:
        if self.compute.device.type == "cuda":
            return random_decoder(CONFIG, 0)
        return original(self)

    patch.setattr(certify.Court, "build", build)


def rounded_on_cuda(patch: pytest.MonkeyPatch, scene: Scene) -> None:
    """The copy on one device is not the file's: it was rounded on the way, and nothing compares the loss."""
    tolerances_off(patch, scene)
    original = certify.load_decoder

    def lossy(file: Any, device: Any) -> Any:
        loaded = original(file, device)
        if device.type == "cuda":
            loaded.decoder.bfloat16().float()
        return loaded

    patch.setattr(certify, "load_decoder", lossy)
