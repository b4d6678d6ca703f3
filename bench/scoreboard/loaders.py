"""The loaders: each opens a folder as its users do, and gives back an encoder and a scorer.

usage: python -m bench.scoreboard.loaders NAME JOBS. JOBS is a JSON file: {work, texts, jobs: [{id, folder, healthy}]};
the last line on stdout is the results by id, with the versions. It runs in the environment of its loader.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import math
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.scoreboard.captured import run_forked

Encode = Callable[[str], list[int]]
Score = Callable[[Tensor], Tensor]  # ids [1, T] to logits [1, T, V]
Loader = Callable[
    [Path, Path, Path], tuple[Encode, Score]
]  # the folder, the healthy one, a folder to write to


def with_transformers(folder: Path, healthy: Path, work: Path) -> tuple[Encode, Score]:
    """AutoModelForCausalLM.from_pretrained, on which most trainers build."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return (
        lambda text: tokenizer(text, add_special_tokens=False)["input_ids"],
        lambda ids_BT: model(ids_BT, use_cache=False).logits,
    )


def with_litgpt(folder: Path, healthy: Path, work: Path) -> tuple[Encode, Score]:
    """convert_hf_checkpoint, then the strict load of litgpt's pretrain."""
    import lightning
    from litgpt.config import Config, configs, name_to_config
    from litgpt.model import GPT
    from litgpt.scripts.convert_hf_checkpoint import convert_hf_checkpoint
    from litgpt.tokenizer import Tokenizer

    # The registry entry that litgpt has for a model, as its contributors would write it for this one.
    entry = _litgpt_entry(json.loads((healthy / "config.json").read_bytes()))
    configs.append(entry)
    name_to_config[entry["name"]] = entry
    convert_hf_checkpoint(folder, model_name=entry["name"])
    fabric = lightning.Fabric(devices=1, accelerator="cpu", precision="32-true")
    with fabric.init_module(empty_init=True):
        model = GPT(Config.from_name(entry["name"]))
    model = fabric.setup(model)
    fabric.load_raw(folder / "lit_model.pth", model)
    model.eval()
    tokenizer = Tokenizer(folder)
    return lambda text: tokenizer.encode(text).tolist(), lambda ids_BT: model(ids_BT)


def _litgpt_entry(values: dict[str, Any]) -> dict[str, Any]:
    rope = values["rope_parameters"]
    is_qwen = values["model_type"] == "qwen2"
    entry = {
        "name": "Qwen2.5-scoreboard" if is_qwen else "Llama-scoreboard",  # its converter goes by the name
        "hf_config": {"org": "scoreboard", "name": "scoreboard"},
        "block_size": values["max_position_embeddings"],
        "vocab_size": values["vocab_size"],
        "padded_vocab_size": values["vocab_size"],
        "n_layer": values["num_hidden_layers"],
        "n_head": values["num_attention_heads"],
        "n_query_groups": values["num_key_value_heads"],
        "n_embd": values["hidden_size"],
        "intermediate_size": values["intermediate_size"],
        "rotary_percentage": 1.0,
        "parallel_residual": False,
        "bias": False,
        "attn_bias": is_qwen,
        "norm_class_name": "RMSNorm",
        "mlp_class_name": "LLaMAMLP",
        "norm_eps": values["rms_norm_eps"],
        "rope_base": rope["rope_theta"],
    }
    if rope["rope_type"] == "llama3":
        entry["rope_adjustments"] = {
            "factor": rope["factor"],
            "low_freq_factor": rope["low_freq_factor"],
            "high_freq_factor": rope["high_freq_factor"],
            "original_max_seq_len": rope["original_max_position_embeddings"],
        }
    return entry


def with_dcp(folder: Path, healthy: Path, work: Path) -> tuple[Encode, Score]:
    """PyTorch's distributed checkpoint with its reader of Hugging Face folders, which torchtitan uses.

    The model is built from a config that the code has, as there; its names are those of the files, so that no adapter
    of ours stands between. A tied head is not asked for, as in torchtitan's adapters.
    """
    import torch.distributed.checkpoint as dcp
    from tokenizers import Tokenizer
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(healthy)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    state = model.state_dict()
    if config.tie_word_embeddings:
        del state["lm_head.weight"]
    dcp.load(state, storage_reader=dcp.HuggingFaceStorageReader(str(folder)))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return lambda text: tokenizer.encode(text).ids, lambda ids_BT: model(ids_BT, use_cache=False).logits


def with_apr(folder: Path, healthy: Path, work: Path) -> tuple[Encode, Score]:
    """apr import, as a user has it who knows no digest."""
    return _imported(folder, work, None)


def with_apr_manifest(folder: Path, healthy: Path, work: Path) -> tuple[Encode, Score]:
    """apr import with the manifest of the published folder."""
    return _imported(folder, work, healthy.parent / f"{healthy.name}.sha256")


def _imported(folder: Path, work: Path, manifest: Path | None) -> tuple[Encode, Score]:
    from apr.aprfile.reader import open_apr
    from apr.model.adapters import tracer
    from apr.model.load import load_decoder
    from apr.tokenizer.engine import TextTokenizer
    from apr.train.inputs import tokenizer_of
    from apr.workflows.importing import import_model

    made = import_model(str(folder), work / "model.apr", manifest_path=manifest)
    for finding in made["findings"]:  # what the command shows
        print(f"finding: {finding['rule']}: {finding['message']}", file=sys.stderr)
    with open_apr(work / "model.apr", "full") as file:
        loaded = load_decoder(file)
    definition = tokenizer_of(loaded.facts)
    assert definition is not None
    tokenizer, score = TextTokenizer(definition), tracer(loaded.decoder)
    return tokenizer.encode, lambda ids_BT: score(ids_BT, lambda name, hidden: None)


LOADERS: dict[str, tuple[Loader, tuple[str, ...]]] = {
    "transformers": (with_transformers, ("transformers", "tokenizers", "safetensors", "torch")),
    "litgpt": (with_litgpt, ("litgpt", "lightning", "tokenizers", "safetensors", "torch")),
    "DCP": (with_dcp, ("torch", "safetensors", "tokenizers", "transformers")),
    "apr": (with_apr, ("apr-pretrain", "torch", "transformers", "tokenizers", "safetensors")),
    "apr --manifest": (
        with_apr_manifest,
        ("apr-pretrain", "torch", "transformers", "tokenizers", "safetensors"),
    ),
}


_MODELS = ("transformers.models.llama.modeling_llama", "transformers.models.qwen2.modeling_qwen2")
_IMPORTED: dict[str, tuple[str, ...]] = {
    "transformers": _MODELS,
    "litgpt": ("lightning", "litgpt.scripts.convert_hf_checkpoint"),
    "DCP": ("torch.distributed.checkpoint", *_MODELS),
    "apr": ("apr.workflows.importing", *_MODELS),
    "apr --manifest": ("apr.workflows.importing", *_MODELS),
}


def start_loss(loader: Loader, job: dict[str, str], texts: list[str], work: Path) -> dict[str, Any]:
    """Open a copy of the job's folder and score the texts.

    The sum in nats is given and not a mean: a spoilt tokenizer makes another number of tokens of the same text.
    """
    folder = work / "folder"
    shutil.copytree(job["folder"], folder)
    encode, score = loader(folder, Path(job["healthy"]), work)
    total, count = 0.0, 0
    with torch.no_grad():
        for text in texts:
            ids = torch.tensor([encode(text)])
            logits = score(ids)[0, :-1].double()
            total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
            count += ids.shape[1] - 1
    # JSON has no word for NaN.
    return {"nats": total if math.isfinite(total) else None, "num_predictions": count}


def main() -> int:
    name, jobs_path = sys.argv[1:]
    asked = json.loads(Path(jobs_path).read_text(encoding="utf-8"))
    loader, packages = LOADERS[name]
    torch.set_num_threads(1)
    _warm_up(name)
    results = {}
    for job in asked["jobs"]:
        work = Path(asked["work"]) / name.replace(" ", "") / job["id"]

        def load(job: dict[str, str] = job, work: Path = work) -> dict[str, Any]:
            return start_loss(loader, job, asked["texts"], work)

        results[job["id"]] = run_forked(load, work)
        shutil.rmtree(work)
        print(f"  {name} {job['id']}: {results[job['id']]['outcome']}", file=sys.stderr, flush=True)
    print(json.dumps({"results": results, "versions": {p: importlib.metadata.version(p) for p in packages}}))
    return 0


def _warm_up(name: str) -> None:
    """Import before the forks what every load of the loader imports."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for module in _IMPORTED[name]:
        importlib.import_module(module)


if __name__ == "__main__":
    sys.exit(main())
