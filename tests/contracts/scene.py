"""What the falsifiers of `apr pretrain` share: the command line in this process, and the files it is given."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apr.aprfile.keys import OWN_KEY, encode_metadata
from apr.aprfile.metadata import ModelFacts, model_metadata
from apr.aprfile.placement import TensorSource, in_index_order, pack_head, place
from apr.aprfile.reader import open_apr
from apr.arch.config import TransformerConfig
from apr.cli.main import entry
from apr.model.decoder import Decoder
from command import Outcome, run_apr
from tiny import CONFIG, make_model, make_shards, make_tokenizer

# A run of the tiny model that takes a tenth of a second.
QUICK = (
    *("--seq-length", "32", "--batch-size", "4", "--val-tokens", "512"),
    *("--device", "cpu", "--dtype", "fp32", "--format", "json"),
)
# No value is one that a program would fill in by itself, so a default cannot look like the file's own.
UNUSUAL = replace(
    CONFIG,
    vocab_size=336,
    hidden_size=48,
    intermediate_size=112,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=12,
    max_position_embeddings=448,
    rms_norm_eps=3e-4,
    rope_theta=54321.0,
    tie_word_embeddings=True,
)


def call(*arguments: object) -> Outcome:
    """Run the command line in this process, where a planted defect acts."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        code = entry([str(argument) for argument in arguments])
    return Outcome(code, stdout.getvalue(), stderr.getvalue())


@dataclass(frozen=True)
class Run(Outcome):
    """A pretraining run and what it left."""

    run_dir: Path

    @property
    def certificate(self) -> dict[str, Any]:
        return self.json["certificate"]

    @property
    def metrics(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.run_dir / "metrics.jsonl").read_text().splitlines()]

    def gate(self, name: str) -> dict[str, Any]:
        return next(gate for gate in self.certificate["gates"] if gate["id"] == name)

    def read(self, name: str) -> dict[str, Any]:
        return json.loads((self.run_dir / name).read_bytes())


def require_success(run: Run) -> Run:
    """Demand that a run went through; its last word says why not."""
    assert run.code == 0, f"exit code {run.code}: {run.stderr.strip().splitlines()[-1:]}"
    return run


class Scene:
    """Files for the falsifiers; those that a falsifier reads are made before any defect is planted."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._count = 0
        self.tokenizer = make_tokenizer()
        self.model = make_model(root / "tiny.apr", tokenizer=self.tokenizer)
        self.shards = make_shards(root / "shards", self.tokenizer)
        self.arch = self.write_arch(CONFIG)

    def new(self, name: str) -> Path:
        """A path that nothing stands at."""
        self._count += 1
        folder = self.root / f"{self._count:04d}"
        folder.mkdir()
        return folder / name

    def write_arch(self, config: TransformerConfig) -> Path:
        path = self.new("arch.json")
        path.write_text(json.dumps(config.to_dict()))
        return path

    def write_bytes(self, content: bytes) -> Path:
        path = self.new("model.apr")
        path.write_bytes(content)
        return path

    def pretrain(self, *arguments: object, steps: int = 0, dataset: Path | None = None) -> Run:
        """Run `apr pretrain` in this process, quickly."""
        run_dir = self.new("run")
        fixed = ("--dataset", dataset or self.shards, "--run-dir", run_dir, "--num-steps", steps, *QUICK)
        return Run(**asdict(call("pretrain", *fixed, *arguments)), run_dir=run_dir)

    @cached_property
    def trained_checkpoint(self) -> Path:
        """A checkpoint of the program's own, 60 steps old, with its optimizer's state beside it.

        A process of its own makes it, without the defect that `pv` may have planted in this one.
        """
        schedule = ("--lr", "3e-3", "--warmup-steps", "5", "--batch-size", "8", "--steps-per-epoch", "20")
        start = (
            "--arch",
            self.arch,
            "--mode",
            "from-scratch",
            "--tokenizer",
            self.model,
            "--num-steps",
            "60",
        )
        run_dir = self.new("run")
        files = ("--dataset", self.shards, "--run-dir", run_dir)
        env = {name: value for name, value in os.environ.items() if name != "PV_PLANT"} | {
            "OMP_NUM_THREADS": "1"
        }
        done = run_apr("pretrain", *files, *QUICK, *start, *schedule, "--allow-shard-cycle", env=env)
        assert done.code == 0, done.stderr
        return run_dir / "ckpt" / "epoch-003.apr"

    @cached_property
    def learned_weights(self) -> dict[str, np.ndarray]:
        with open_apr(self.trained_checkpoint) as file:
            return {name: file.as_f32(name).copy() for name in file.entries if name not in file.aliases}

    @cached_property
    def learned(self) -> Path:
        """A model that has learned the corpus, with a reference by transformers."""
        return make_model(
            self.new("learned.apr"),
            oracle="transformers",
            tokenizer=self.tokenizer,
            weights=self.learned_weights,
        )

    @cached_property
    def worn_weights(self) -> dict[str, np.ndarray]:
        """Those of the learned model, with one matrix slightly off."""
        weights = {name: value.copy() for name, value in self.learned_weights.items()}
        weights["model.layers.1.mlp.down_proj.weight"] *= 1.02
        return weights

    @cached_property
    def worn_without_reference(self) -> Path:
        """The worn weights under no reference."""
        path = self.new("worn.apr")
        return make_model(path, oracle="none", tokenizer=self.tokenizer, weights=self.worn_weights)

    @cached_property
    def worn(self) -> Path:
        """The worn weights under the reference of the intact ones."""
        with open_apr(self.learned) as file:
            reference = file.metadata[OWN_KEY]["reference"]

        def keep_reference(metadata: dict[str, Any]) -> None:
            metadata[OWN_KEY]["reference"] = reference

        return make_model(
            self.new("worn.apr"),
            oracle="none",
            tokenizer=self.tokenizer,
            weights=self.worn_weights,
            edit_metadata=keep_reference,
        )


@contextmanager
def watch_allocations() -> Iterator[list[TransformerConfig]]:
    """Record the config of every decoder that is allocated meanwhile."""
    allocated: list[TransformerConfig] = []
    original = Decoder.__init__

    def recording(self: Decoder, config: TransformerConfig) -> None:
        allocated.append(config)
        original(self, config)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Decoder, "__init__", recording)
        yield allocated


Words = str | tuple[Any, ...]


def names(message: str, words: Words) -> bool:
    """Whether a message holds a text, or (field, value, other value) one after the other, however it is worded."""
    parts = (words,) if isinstance(words, str) else words
    pattern = "[^;]*?".join(rf"(?<![\w.]){re.escape(str(part))}(?!\w)" for part in parts)
    return words in message if isinstance(words, str) else re.search(pattern, message) is not None


def require_refusal(
    scene: Scene, *arguments: object, id: str, code: int = 1, says: tuple[Words, ...] = (), **options: Any
) -> Run:
    """Demand a refusal before anything is allocated or written, with its id and every one of `says` in it."""
    with watch_allocations() as allocated:
        run = scene.pretrain(*arguments, **options)
    assert run.code != 0, "the command exited 0"
    assert run.code == code, f"exit code {run.code}, not {code}: {run.stderr[-300:]}"
    assert run.error_id == id, f"refused as {run.error_id}, not as {id}: {run.stderr[-300:]}"
    message = run.stderr.strip().splitlines()[-1]
    for words in (id, *says):
        assert names(message, words), f"the message lacks {words!r}: {message}"
    assert not allocated, "a model was allocated before the refusal"
    assert not run.run_dir.exists(), "the refused run left a run directory"
    return run


def stamped_as(config: TransformerConfig) -> Any:
    """An edit that makes a file's metadata say another config, consistently."""

    def edit(metadata: dict[str, Any]) -> None:
        claimed = model_metadata(ModelFacts(config=config))
        own = metadata[OWN_KEY]
        metadata.update(claimed)
        metadata[OWN_KEY] = own | {"config": config.to_dict()}

    return edit


def write_foreign(path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Path:
    """Write a file as other programs do: typed keys only, no digests, no footer."""
    sources = in_index_order(
        [
            TensorSource(name=name, dtype="F32", shape=value.shape, produce=lambda value=value: value)
            for name, value in tensors.items()
        ],
        {},
    )
    head = encode_metadata(metadata, str(path))
    placement = place(sources, {}, len(head), has_vocab=False)
    content = bytearray(placement.end)
    packed = pack_head(head, placement)
    content[: len(packed)] = packed
    for source, owner in zip(sources, placement.owners, strict=True):
        content[owner.offset : owner.end] = source.produce().astype("<f4").tobytes()
    path.write_bytes(bytes(content))
    return path


def foreign_keys(config: TransformerConfig) -> dict[str, Any]:
    """The metadata that other programs write for a config."""
    metadata = model_metadata(ModelFacts(config=config))
    del metadata[OWN_KEY]
    metadata.pop("tied_embeddings", None)
    return metadata
