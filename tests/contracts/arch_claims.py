"""What FALSIFY-APR-PRETRAIN-ARCH-001 to -004, -007 and CUDA-001 do; each raises AssertionError when it refutes."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

import apr
from apr.aprfile.keys import OWN_KEY
from apr.aprfile.metadata import ModelFacts, model_metadata
from apr.aprfile.reader import open_apr
from apr.aprfile.writer import TensorSource, write_apr
from apr.arch.config import TransformerConfig
from apr.arch.counts import parameter_count
from apr.arch.errors import ArchitectureUnsupported, ConfigFieldMissing, ConfigValueBad
from apr.arch.inventory import inventory
from apr.arch.presets import find_config
from apr.convert.errors import TensorsDiffer
from apr.model import decoder as decoder_module
from apr.model.decoder import Decoder, RMSNorm
from apr.model.errors import SequenceTooLong
from apr.model.initialise import initialise
from apr.model.load import load_decoder
from apr.train import certify, estimate, pretrain
from contracts.init_claims import kept
from contracts.scene import (
    UNUSUAL,
    Scene,
    call,
    foreign_keys,
    require_refusal,
    require_success,
    watch_allocations,
    write_foreign,
)
from tiny import CONFIG, QWEN_LIKE, make_model, make_weights

# Qwen2.5-0.5B as published, field by field.
QWEN2_0_5B: dict[str, Any] = {
    "family": "qwen2",
    "vocab_size": 151936,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "rope_scaling": None,
    "hidden_act": "silu",
    "attention_bias": True,
    "tie_word_embeddings": True,
    "sliding_window": None,
}
# The architecture of a run that names none.
LLAMA_370M: dict[str, Any] = {
    "family": "llama",
    "vocab_size": 50257,
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e4,
    "rope_scaling": None,
    "hidden_act": "silu",
    "attention_bias": False,
    "tie_word_embeddings": True,
    "sliding_window": None,
}
BASELINE_VALUES = Path(__file__).parents[1] / "golden" / "llama_370m_start.json"
COSINE_AT_LEAST = 0.99999


def differing(found: dict[str, Any], expected: dict[str, Any]) -> str:
    names = sorted({*found, *expected})
    pairs = [(name, found.get(name), expected.get(name)) for name in names]
    return ", ".join(f"{name} is {a!r}, not {b!r}" for name, a, b in pairs if (a, type(a)) != (b, type(b)))


# ARCH-001, 002


def preset_is_the_published_config(scene: Scene) -> None:
    """ARCH-001: every field of the preset is the published one, and so are its counts."""
    config = find_config("qwen2-0.5b")
    assert not (words := differing(config.to_dict(), QWEN2_0_5B)), words
    assert parameter_count(config) == 494_032_768, f"{parameter_count(config):,} parameters"
    assert len(inventory(config)) == 290, f"{len(inventory(config))} tensors"
    untied = replace(config, tie_word_embeddings=False)
    assert (parameter_count(untied), len(inventory(untied))) == (630_167_424, 291)


def no_init_is_the_baseline(scene: Scene, shards: Path) -> None:
    """ARCH-002: a run without --init and --arch is llama-370m: its config, its size, its first weights."""
    seen: list[Any] = []
    with pytest.MonkeyPatch.context() as patch, watch_allocations() as allocated:
        patch.setattr(estimate, "Inputs", kept(estimate.Inputs, seen))
        size = ("--num-steps", 1, "--batch-size", 1, "--seq-length", 32, "--device", "cpu", "--dtype", "fp32")
        outcome = call("pretrain", "--dry-run", "--dataset", shards, *size, "--format", "json")
    assert outcome.code == 0, f"exit code {outcome.code}: {outcome.stderr[-300:]}"
    assert not allocated, "a dry run allocated a model"
    config = seen[0].config
    assert not (words := differing(config.to_dict(), LLAMA_370M)), words
    assert outcome.json["num_parameters"] == 322_045_952, f"{outcome.json['num_parameters']:,} parameters"
    golden = json.loads(BASELINE_VALUES.read_bytes())
    found = first_weights(config)
    assert found.keys() == golden.keys()
    for name, values in golden.items():
        assert found[name] == pytest.approx(values, abs=1e-6), f"{name} starts at {found[name]}, not {values}"


@dataclass
class FewTensors:
    """Some parameters of a decoder that is too large to allocate in a test: each is drawn for itself."""

    config: TransformerConfig
    tensors: dict[str, Tensor]

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        return list(self.tensors.items())


def first_weights(config: TransformerConfig) -> dict[str, list[float]]:
    """The first values of a few tensors as initialised with seed 42, with each one's spread."""
    shapes = {spec.name: spec.shape for spec in inventory(config)}
    kinds = ("self_attn.k_proj.weight", "self_attn.o_proj.weight", "input_layernorm.weight")
    few = FewTensors(
        config, {name: torch.empty(shapes[name]) for name in (f"model.layers.7.{kind}" for kind in kinds)}
    )
    initialise(few, 42)  # type: ignore[arg-type]
    return {
        name: [*value.flatten()[:4].tolist(), float(value.std(correction=0))]
        for name, value in few.tensors.items()
    }


# ARCH-003

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
            patch.setattr(pretrain, "certify", kept(pretrain.certify, starts))
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


# ARCH-004

GROUPED = replace(
    QWEN_LIKE,
    hidden_size=112,
    num_attention_heads=14,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=64,
)
_KEY_VALUE = ("k_proj.weight", "k_proj.bias", "v_proj.weight", "v_proj.bias")


def grouped_attention_is_exact(scene: Scene) -> None:
    """ARCH-004: GQA 7:1 equals multi-head attention with repeated keys and values, and transformers, in fp32."""
    weights = make_weights(GROUPED, seed=4)
    full = replace(GROUPED, num_key_value_heads=GROUPED.num_attention_heads)
    repeated = {
        name: repeat_heads(value) if name.endswith(_KEY_VALUE) else value for name, value in weights.items()
    }
    ids = torch.from_numpy(np.random.default_rng(5).integers(0, GROUPED.vocab_size, (2, 48)))
    ours = logits_of(scene, GROUPED, weights, ids)
    for name, other in (
        ("multi-head attention", logits_of(scene, full, repeated, ids)),
        ("transformers", logits_of_transformers(weights, ids)),
    ):
        cosine = float(torch.nn.functional.cosine_similarity(ours.double(), other.double(), dim=-1).min())
        assert cosine >= COSINE_AT_LEAST, f"the cosine with {name} is {cosine}"
        gap = float((ours - other).abs().max() / other.std())
        assert gap <= 1e-4, f"logits differ from {name} by {gap} of their spread"


def repeat_heads(value: np.ndarray) -> np.ndarray:
    """Rows of 2 key-value heads as rows of 14: head n of the result is head n // 7."""
    heads = value.reshape(GROUPED.num_key_value_heads, GROUPED.head_dim, *value.shape[1:])
    chosen = [heads[n // 7] for n in range(GROUPED.num_attention_heads)]
    return np.ascontiguousarray(np.concatenate(chosen))


def logits_of(scene: Scene, config: TransformerConfig, weights: dict[str, np.ndarray], ids: Tensor) -> Tensor:
    path = make_model(
        scene.new("attention.apr"), config, oracle="none", tokenizer=scene.tokenizer, weights=weights
    )
    with open_apr(path) as file, torch.no_grad():
        return load_decoder(file).decoder(ids)


def logits_of_transformers(weights: dict[str, np.ndarray], ids: Tensor) -> Tensor:
    """The same tensors in transformers' own class, put together here and not by the program."""
    model = transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(
            vocab_size=320,
            hidden_size=112,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=14,
            num_key_value_heads=2,
            max_position_embeddings=64,
            rms_norm_eps=1e-6,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
            tie_word_embeddings=True,
            attn_implementation="eager",
        )
    )
    tensors = {name: torch.from_numpy(value) for name, value in weights.items()}
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    model.load_state_dict(tensors, strict=True)
    with torch.no_grad():
        return model.eval()(ids, use_cache=False).logits


# ARCH-007


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
        require_refusal(scene, *options, id=ArchitectureUnsupported.id, says=("an encoder (BERT)",), steps=1)


# CUDA-001

DEVICES = ("cpu", "cuda", *(f"cuda:{index}" for index in range(16)), "auto")


class Reached(Exception):
    """The builder of the model was called: that is all a device without hardware can show."""


def every_device_loads_alike(scene: Scene) -> None:
    """CUDA-001: whatever --device says, the model of --init is built by load_decoder, of that file, on that device."""
    for device in DEVICES:
        calls: list[tuple[Path, torch.device]] = []

        def builder(file: Any, device: torch.device, calls: list[Any] = calls) -> None:
            calls.append((file.path, torch.device(device)))
            raise Reached

        with pytest.MonkeyPatch.context() as patch, watch_allocations() as allocated:
            stub_cuda(patch)
            patch.setattr(certify, "load_decoder", builder)
            patch.setenv("APR_TRACEBACK", "1")
            end = how_it_ends(scene, "--init", scene.model, "--device", device)
        assert isinstance(end, Reached), f"--device {device} did not come to load_decoder: {end}"
        want = torch.device("cuda" if device == "auto" else device)
        assert calls == [(scene.model, want)], f"--device {device} loads {calls}"
        assert not allocated, f"--device {device} allocates another model before the checkpoint's"


def how_it_ends(scene: Scene, *arguments: object) -> Exception | str:
    """What a run raises, with the program's own net off; or how the command ends."""
    try:
        return f"exit code {scene.pretrain(*arguments).code}"
    except Exception as error:
        return error


def stub_cuda(patch: pytest.MonkeyPatch) -> None:
    """Make torch say that it has sixteen CUDA devices."""
    patch.setattr(torch.cuda, "is_available", lambda: True)
    patch.setattr(torch.cuda, "device_count", lambda: 16)
    patch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)


# Who may build a Decoder: the loader, random initialisation, and the recorder of a grade B reference.
BUILDERS = {"model/load.py", "model/initialise.py", "workflows/importing.py"}


def one_loader_builds_models(source: Path | None = None) -> None:
    """CUDA-001: nothing else in the program builds a decoder, or fills one from a file."""
    root = source or Path(apr.__file__).parent
    names: dict[str, set[str]] = {"Decoder": set(), "stored_tensor": set()}
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = getattr(node.func, "id", getattr(node.func, "attr", None))
                names.get(str(called), set()).add(path.relative_to(root).as_posix())
    assert names["Decoder"] == BUILDERS, f"decoders are built in {sorted(names['Decoder'])}"
    assert names["stored_tensor"] == {"model/load.py"}, (
        f"files fill models in {sorted(names['stored_tensor'])}"
    )


def stub_device_gets_the_files_weights(scene: Scene) -> None:
    """CUDA-001: a run on a device that calls itself CUDA starts from the same bytes as one on the CPU."""
    starts: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "certify", kept(pretrain.certify, starts))
        require_success(scene.pretrain("--init", scene.learned))
        patch.setattr(pretrain, "resolve_compute", lambda device, dtype: StubCompute())
        require_success(scene.pretrain("--init", scene.learned, "--device", "cuda"))
    cpu, stub = (start.decoder.state_dict() for start in starts)
    assert cpu.keys() == stub.keys()
    unequal = [name for name in cpu if not torch.equal(cpu[name], stub[name])]
    assert not unequal, f"on the stub device {unequal[0]} is not the file's"


class CudaInName(str):
    """A device that is the CPU's memory and says `cuda` when asked what it is."""

    type = "cuda"


@dataclass(frozen=True)
class StubCompute:
    """What resolve_compute gives where there is CUDA, over the CPU's memory."""

    device: Any = field(default_factory=lambda: CudaInName("cpu"))
    dtype: torch.dtype = torch.float32
    note: str = ""
    dtype_name: str = "fp32"
