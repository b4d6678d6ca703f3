"""FALSIFY-APR-PRETRAIN-ARCH-003: ten fields come from the file, none by default."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from apr.aprfile.keys import OWN_KEY
from apr.arch.errors import ConfigFieldMissing, ConfigValueBad
from apr.model import decoder as decoder_module
from apr.model.decoder import Decoder, RMSNorm
from apr.model.errors import SequenceTooLong
from apr.train import run as run_module
from contracts.claims.presets import differing
from contracts.claims.start import kept
from contracts.scene import UNUSUAL, Scene, foreign_keys, require_refusal, write_foreign
from tiny import make_model, make_weights

# One field at a time, with weights of the changed shape: no value is a default, none is UNUSUAL's.
VARIED: dict[str, Any] = {
    "vocab_size": 352,
    "hidden_size": 64,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
    "intermediate_size": 160,
    "num_hidden_layers": 1,
    "max_position_embeddings": 400,  # the probe takes 384
    "rope_theta": 1234.5,
    "rms_norm_eps": 2e-2,
    "tie_word_embeddings": False,
}

FOREIGN_KEYS = {
    "num_attention_heads": "num_heads",
    "num_key_value_heads": "num_kv_heads",
    "num_hidden_layers": "num_layers",
}


def observed(decoder: Decoder) -> dict[str, Any]:
    """The ten fields as they show in a built module, read from its memory and its behaviour."""
    attention, mlp = decoder.model.layers[0].self_attn, decoder.model.layers[0].mlp
    embedding = decoder.model.embed_tokens.weight
    norms = {module.eps for module in decoder.modules() if isinstance(module, RMSNorm)}
    assert len(norms) == 1, f"the norms have the epsilons {norms}"
    return {
        "vocab_size": embedding.shape[0],
        "hidden_size": embedding.shape[1],
        "num_attention_heads": attention.q_proj.weight.shape[0] // attention.head_dim,
        "num_key_value_heads": attention.k_proj.weight.shape[0] // attention.head_dim,
        "intermediate_size": mlp.gate_proj.weight.shape[0],
        "num_hidden_layers": len(decoder.model.layers),
        "max_position_embeddings": longest_sequence(decoder),
        "rope_theta": rotation_base(decoder),
        "rms_norm_eps": norms.pop(),
        "tie_word_embeddings": decoder.head_weight.data_ptr() == embedding.data_ptr(),
    }


def longest_sequence(decoder: Decoder) -> int:
    """The positions that the module takes, and that it takes so many; one more is refused."""
    with pytest.raises(SequenceTooLong) as refusal:
        decoder.hidden(torch.zeros(1, 1 << 20, dtype=torch.int64))
    limit = refusal.value.limit
    if limit <= UNUSUAL.max_position_embeddings:  # a default of 32,768 need not be computed to be seen
        with torch.no_grad():
            decoder.hidden(torch.zeros(1, limit, dtype=torch.int64))
    return limit


def rotation_base(decoder: Decoder) -> float:
    """theta, from the angle of the second pair at position 1: theta^(-2/H)."""
    tables: list[tuple[Tensor, Tensor]] = []
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(decoder_module, "rope_tables", kept(decoder_module.rope_tables, tables))
        decoder._rope = None  # computed anew, so that it can be seen
        decoder.hidden(torch.zeros(1, 4, dtype=torch.int64))
    sine = tables[0][1].double()
    return float(torch.asin(sine[1, 1]) ** (-sine.shape[1] / 2))


def every_field_is_the_files(scene: Scene) -> None:
    """ARCH-003: each of the ten fields shows in the built module as the file has it, and the forward pass with it."""
    for name in ("nothing", *VARIED):
        config = UNUSUAL if name == "nothing" else replace(UNUSUAL, **{name: VARIED[name]})
        path = make_model(scene.new("varied.apr"), config, oracle="transformers", tokenizer=scene.tokenizer)
        starts: list[Any] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run_module, "certify", kept(run_module.certify, starts))
            run = scene.pretrain("--init", path)
        assert run.code == 0, f"{name} varied: exit code {run.code}: {run.stderr[-300:]}"
        expected = {field: getattr(config, field) for field in VARIED}
        found = observed(starts[0].decoder)
        assert found.pop("rope_theta") == pytest.approx(expected.pop("rope_theta"), rel=1e-3), (
            f"{name} varied: theta"
        )
        assert not (words := differing(found, expected)), f"{name} varied: {words}"
        assert run.gate("reference.loss")["verdict"] == "yes", f"{name} varied: the loss is not transformers'"


def no_field_is_filled_in(scene: Scene) -> None:
    """ARCH-003: a file that lacks one of the ten fields is refused, and the field named."""

    def without(name: str) -> Callable[[dict[str, Any]], None]:
        return lambda metadata: metadata[OWN_KEY]["config"].pop(name)

    def null(name: str) -> Callable[[dict[str, Any]], None]:
        return lambda metadata: metadata[OWN_KEY]["config"].update({name: None})

    for name in VARIED:
        for edit, id in ((without(name), ConfigFieldMissing.id), (null(name), ConfigValueBad.id)):
            path = make_model(
                scene.new("partial.apr"),
                UNUSUAL,
                oracle="none",
                tokenizer=scene.tokenizer,
                edit_metadata=edit,
            )
            require_refusal(scene, "--init", path, id=id, says=(name,), steps=1)
        if name == "tie_word_embeddings":
            continue  # other programs' files have no key for it; there the tensors tell
        keys = foreign_keys(UNUSUAL)
        assert keys.pop(FOREIGN_KEYS.get(name, name)) == getattr(UNUSUAL, name)
        path = write_foreign(scene.new("foreign.apr"), keys, make_weights(UNUSUAL))
        options = ("--init", path, "--tokenizer", scene.model)
        require_refusal(
            scene, *options, id=ConfigFieldMissing.id, says=(FOREIGN_KEYS.get(name, name),), steps=1
        )
