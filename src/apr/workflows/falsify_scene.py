"""What faults are planted in: the user's checkpoint and dataset, and what is made of them for the purpose."""

from __future__ import annotations

import hashlib
import json
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from apr.aprfile.metadata import read_facts
from apr.aprfile.reader import AprFile, open_apr
from apr.arch.config import TransformerConfig
from apr.arch.inventory import inventory
from apr.data.encode import EncodeOptions, encode_corpus
from apr.model.load import stored_tensor
from apr.tokenizer.definition import TokenizerDefinition
from apr.tokenizer.engine import TextTokenizer
from apr.train.errors import NoTokenizer
from apr.train.inputs import tokenizer_of
from apr.train.pretrain import pretrain
from apr.train.reporter import Silent
from apr.train.spec import RunSpec

SEQ_LENGTH, BATCH_SIZE, NUM_STEPS = 64, 2, 4
_CUT_LAYERS = 2
_CORPUS_FILES = 48  # of the standard library's source, when no dataset is given
_CORPUS_BYTES = 20_000  # of each


@dataclass(kw_only=True)
class Scene:
    """A checkpoint, a dataset, and a place to work in. Nothing of the user's is written to."""

    model: Path
    dataset: Path
    folder: Path
    num_layers_of_source: int = field(default=_CUT_LAYERS)

    @cached_property
    def config(self) -> TransformerConfig:
        """Of the checkpoint."""
        with open_apr(self.model, "structure") as file:
            return read_facts(file).config

    @cached_property
    def spec(self) -> RunSpec:
        """The run that every fault is planted in: a few small steps in fp32 on the CPU."""
        return RunSpec(
            init=self.model,
            dataset=self.dataset,
            run_dir=self.folder / "run",
            num_steps=NUM_STEPS,
            warmup_steps=2,
            batch_size=BATCH_SIZE,
            seq_length=min(SEQ_LENGTH, self.config.sequence_limit[1]),
            steps_per_epoch=NUM_STEPS,
            val_tokens=2 * SEQ_LENGTH,
            device="cpu",
            dtype="fp32",
            target_val_loss=0.5,
            save="blocking",  # no copy of weights and moments in memory
        )

    @cached_property
    def source(self) -> Path:
        """The first layers of the checkpoint as a Hugging Face folder: what an import would read."""
        folder = self.folder / "source"
        with open_apr(self.model, "structure") as file:
            write_source(file, folder, self.num_layers_of_source)
        return folder

    @cached_property
    def source_manifest(self) -> Path:
        """Digests of the source folder's files, as somebody else would have recorded them."""
        path = self.folder / "source.sha256"
        lines = [
            f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}" for p in sorted(self.source.iterdir())
        ]
        path.write_text("\n".join(lines) + "\n")
        return path

    @cached_property
    def finished_run(self) -> Path:
        """The directory of a healthy run."""
        run_dir = self.folder / "finished"
        pretrain(replace(self.spec, run_dir=run_dir), Silent())
        return run_dir

    @contextmanager
    def workplace(self) -> Iterator[Path]:
        """A new folder, gone afterwards."""
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="fault-") as name:
            yield Path(name)


def tokenizer_in(model: Path) -> TokenizerDefinition:
    """The tokenizer inside a checkpoint.

    Raises:
        NoTokenizer: it holds none.
    """
    with open_apr(model, "structure") as file:
        definition = tokenizer_of(read_facts(file))
    if definition is None:
        raise NoTokenizer(source=str(model))
    return definition


def encode_sample(tokenizer: TokenizerDefinition, folder: Path) -> Path:
    """Encode a part of the standard library's source, a sixth of it held out; returns the dataset folder."""
    text = folder / "text"
    text.mkdir()
    library = Path(sysconfig.get_path("stdlib"))
    number = 0
    for path in sorted(library.glob("*.py"))[:_CORPUS_FILES]:
        lines = path.read_text(encoding="utf-8", errors="replace")[:_CORPUS_BYTES].splitlines()
        # Numbered, and short: a licence that two files share would be trained on and validated on.
        numbered = [f"{number + i} {line[:60]}" for i, line in enumerate(lines)]
        number += len(lines)
        (text / path.name).write_text("\n".join(numbered), encoding="utf-8")
    out = folder / "shards"
    encode_corpus(
        [text], TextTokenizer(tokenizer), out, options=EncodeOptions(val_fraction=1 / 6, on_bad="skip")
    )
    return out


def write_source(
    file: AprFile, folder: Path, num_layers: int, *, dtype: torch.dtype | None = None, num_shards: int = 1
) -> None:
    """Write the first layers of a checkpoint as a Hugging Face folder.

    Args:
        file: the checkpoint.
        folder: to make.
        num_layers: at most.
        dtype: to store weights in; None for the file's own.
        num_shards: weight files; with more than one there is an index.
    """
    folder.mkdir(parents=True)
    facts = read_facts(file)
    config = replace(facts.config, num_hidden_layers=min(num_layers, facts.config.num_hidden_layers))
    (folder / "config.json").write_text(json.dumps(spelled_config(config), indent=2))
    names = [spec.name for spec in inventory(config)]
    tensors = {name: stored_tensor(file, name).clone() for name in names}
    if dtype is not None:
        tensors = {name: value.to(dtype) for name, value in tensors.items()}
    if num_shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        _save_sharded(tensors, folder, num_shards)
    if (definition := tokenizer_of(facts)) is not None:
        (folder / "tokenizer.json").write_text(definition.json_text, encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps(_special_tokens(definition), indent=2))


def _special_tokens(definition: TokenizerDefinition) -> dict[str, str]:
    """What tokenizer_config.json says of the special tokens: their texts."""
    engine = TextTokenizer(definition)
    ids = {"eos_token": definition.end_of_text_id, "bos_token": definition.bos_token_id}
    return {name: engine.decode([token]) for name, token in ids.items() if token is not None}


def _save_sharded(tensors: dict[str, Any], folder: Path, num_shards: int) -> None:
    names = list(tensors)
    weight_map: dict[str, str] = {}
    for number, part in enumerate(np.array_split(np.arange(len(names)), num_shards), start=1):
        file_name = f"model-{number:05d}-of-{num_shards:05d}.safetensors"
        save_file({names[i]: tensors[names[i]] for i in part}, folder / file_name, metadata={"format": "pt"})
        weight_map |= {names[i]: file_name for i in part}
    total = sum(value.nbytes for value in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def spelled_config(config: TransformerConfig) -> dict[str, Any]:
    """Spell a config as Hugging Face's config.json."""
    classes = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}
    values = {name: value for name, value in config.to_dict().items() if name != "family"}
    if values["rope_scaling"] is not None:
        values["rope_scaling"] = {k: v for k, v in values["rope_scaling"].items() if v is not None}
    if config.family == "qwen2":
        del values["attention_bias"]  # the class implies it
    return {**values, "architectures": [classes[config.family]], "model_type": config.family}
