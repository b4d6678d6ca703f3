"""FALSIFY-APR-PRETRAIN-ARCH-007: real encoders, as they are and disguised."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import transformers

from apr.aprfile.metadata import ModelFacts, model_metadata
from apr.aprfile.writer import TensorSource, write_apr
from apr.arch.errors import ArchitectureUnsupported
from apr.convert.errors import TensorsDiffer
from contracts.scene import Scene, call, foreign_keys, require_refusal, write_foreign
from tiny import CONFIG


@dataclass(frozen=True)
class Encoders:
    """A real encoder: as transformers saves it, and inside .apr files."""

    folders: tuple[Path, ...]  # as saved: BertModel, BertForMaskedLM
    disguised_folder: Path  # its tensors under a decoder's config.json
    files: tuple[Path, ...]  # stamped BertModel; stamped LlamaForCausalLM; with a decoder's whole config


def make_encoders(scene: Scene) -> Encoders:
    config = transformers.BertConfig(
        vocab_size=320, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256,
        max_position_embeddings=512,
    )  # fmt: skip
    folders = []
    for kind in (transformers.BertModel, transformers.BertForMaskedLM):
        folders.append(scene.new("bert"))
        kind(config).save_pretrained(folders[-1])
    state = {name: value.numpy() for name, value in transformers.BertModel(config).state_dict().items()}
    tensors = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in state.items()}
    disguised = scene.new("disguised")
    disguised.mkdir()
    (disguised / "model.safetensors").write_bytes((folders[0] / "model.safetensors").read_bytes())
    transformers.LlamaConfig(
        **{name: value for name, value in CONFIG.to_dict().items() if name not in ("family", "rope_scaling")},
        architectures=["LlamaForCausalLM"],
    ).save_pretrained(disguised)
    return Encoders(tuple(folders), disguised, encoder_files(scene, tensors))


def encoder_files(scene: Scene, tensors: dict[str, np.ndarray]) -> tuple[Path, ...]:
    keys = foreign_keys(CONFIG)
    bert = {"architecture": "BertModel", "hf_architecture": "BertModel", "hf_model_type": "bert"}
    stamped, disguised, claimed = (scene.new(f"{name}.apr") for name in ("bert", "llama", "claimed"))
    write_foreign(stamped, keys | bert, tensors)
    write_foreign(disguised, keys | {"hf_architecture": "LlamaForCausalLM"}, tensors)
    sources = [
        TensorSource(name=name, dtype="F32", shape=value.shape, produce=lambda value=value: value)
        for name, value in tensors.items()
    ]
    write_apr(claimed, model_metadata(ModelFacts(config=CONFIG)), sources)
    return stamped, disguised, claimed


def encoder_is_refused(scene: Scene, encoders: Encoders) -> None:
    """ARCH-007: an encoder is refused by import and by --init, and called one, whatever its file claims to be."""
    for folder in encoders.folders:
        out = scene.new("out.apr")
        outcome = call("import", folder, "-o", out, "--format", "json")
        assert outcome.code == 1, f"import of an encoder: exit code {outcome.code}"
        assert outcome.error_id == ArchitectureUnsupported.id, f"import: {outcome.stderr[-300:]}"
        assert "bert" in outcome.stderr.lower().replace(str(folder).lower(), ""), (
            "the architecture is not named"
        )
        assert not out.exists(), "something was imported"
    outcome = call("import", encoders.disguised_folder, "-o", scene.new("out.apr"), "--format", "json")
    assert (outcome.code, outcome.error_id) == (1, TensorsDiffer.id), (
        f"a disguised encoder: {outcome.stderr[-300:]}"
    )
    for path in encoders.files:
        # The tokenizer and --arch are there, so that nothing but the tensors' names stands in the way.
        options = ("--init", path, "--tokenizer", scene.model, "--arch", scene.arch)
        require_refusal(scene, *options, id=ArchitectureUnsupported.id, says=("encoder",), steps=1)
