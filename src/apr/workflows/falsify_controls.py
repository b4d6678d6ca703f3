"""Healthy variations that no gate may refuse: a check that refuses them would be switched off by its users."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from apr.aprfile.reader import open_apr
from apr.arch.config import TransformerConfig
from apr.base.errors import Interrupted
from apr.stepzero.faults.aprfiles import Contents, rewritten
from apr.stepzero.probe import probe_text
from apr.tokenizer.definition import save_definition
from apr.train.pretrain import pretrain
from apr.train.reporter import Silent, StepFigures
from apr.train.spec import RunSpec
from apr.workflows.falsify_scene import Scene, tokenizer_in, write_source
from apr.workflows.importing import import_model
from apr.workflows.small_models import SMALL_CONFIGS, encode_texts, small_tokenizer, write_small_model

Prepare = Callable[[Scene, Path], RunSpec]  # from the scene and a folder to work in, the run


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A healthy run. `num_threads` is what torch may use; None for what it takes."""

    id: str
    says: str
    prepare: Prepare
    num_threads: int | None = None
    quick: bool = False
    needs: Callable[[TransformerConfig], bool] | None = (
        None  # whether it is a healthy run for a model of that config
    )


class _Trained(Exception):
    """A step was made: what follows, a checkpoint of some gigabytes, has nothing more to say here."""


class _UntilTrained(Silent):
    """Ends a run when it has made its first step."""

    def step(self, figures: StepFigures) -> None:
        """End the run."""
        raise _Trained


def run_control(control: Control, scene: Scene) -> dict[str, Any]:
    """Run a healthy variation; returns {id, says, alarm, grade, seconds}: `alarm` is the refusal, or None."""
    start, alarm = time.perf_counter(), None
    threads = torch.get_num_threads()
    with scene.workplace() as folder:
        try:
            if control.num_threads is not None:
                torch.set_num_threads(control.num_threads)
            pretrain(control.prepare(scene, folder), _UntilTrained())
        except _Trained:
            pass
        except Interrupted:
            raise
        except Exception as error:  # whatever it is, a healthy run did not run
            alarm = str(error) or type(error).__name__
        finally:
            torch.set_num_threads(threads)
        certificate = folder / "run" / "certificate.json"
        grade = json.loads(certificate.read_bytes())["grade"] if certificate.is_file() else None
    seconds = round(time.perf_counter() - start, 2)
    return {"id": control.id, "says": control.says, "alarm": alarm, "grade": grade, "seconds": seconds}


def _with(**changes: Any) -> Prepare:
    """The scene's run with other options, one step long."""
    return lambda scene, folder: replace(_one_step(scene, folder), **changes)


def _one_step(scene: Scene, folder: Path) -> RunSpec:
    return replace(scene.spec, run_dir=folder / "run", num_steps=1, warmup_steps=1)


def _renamed(scene: Scene, folder: Path) -> RunSpec:
    path = folder / "eine andere Datei.apr"
    path.symlink_to(scene.model)
    return replace(_one_step(scene, folder), init=path)


def _own_tokenizer(scene: Scene, folder: Path) -> RunSpec:
    save_definition(tokenizer_in(scene.model), folder / "tokenizer")
    return replace(_one_step(scene, folder), tokenizer=folder / "tokenizer")


def _without_reference(scene: Scene, folder: Path) -> RunSpec:
    path = folder / "plain.apr"
    shutil.copyfile(scene.model, path)

    def forget(contents: Contents) -> None:
        contents.own["reference"] = None

    rewritten(path, forget)
    return replace(_one_step(scene, folder), init=path)


def _trained(scene: Scene, folder: Path) -> RunSpec:
    checkpoint = sorted((scene.finished_run / "ckpt").glob("*.apr"))[-1]
    return replace(_one_step(scene, folder), init=checkpoint)


def _imported(**options: Any) -> Prepare:
    """A small cut of the checkpoint as a folder, imported; its loss may be anything, so only its equality is judged."""

    def prepare(scene: Scene, folder: Path) -> RunSpec:
        with open_apr(scene.model, "structure") as file:
            write_source(file, folder / "source", scene.config.num_hidden_layers, **options)
        import_model(str(folder / "source"), folder / "imported.apr", oracle="self")
        shutil.rmtree(folder / "source")
        return replace(_one_step(scene, folder), init=folder / "imported.apr")

    return prepare


def _corpus(texts: Callable[[], list[str]], **options: Any) -> Prepare:
    def prepare(scene: Scene, folder: Path) -> RunSpec:
        dataset = encode_texts(folder, texts(), tokenizer_in(scene.model), **options)
        return replace(_one_step(scene, folder), dataset=dataset, allow_shard_cycle=True, seq_length=32)

    return prepare


def _small(name: str) -> Prepare:
    def prepare(scene: Scene, folder: Path) -> RunSpec:
        tokenizer = small_tokenizer()
        model = write_small_model(folder / f"{name}.apr", SMALL_CONFIGS[name], tokenizer)
        dataset = encode_texts(folder, _prose(), tokenizer)
        spec = _one_step(scene, folder)
        return replace(spec, init=model, dataset=dataset, allow_shard_cycle=True, num_steps=2)

    return prepare


def _prose() -> list[str]:
    """The probe's own text with a number behind every second word, so that no two windows of it are alike."""
    words = [word for word in probe_text().split() if word.isascii()]
    pairs = [" ".join(words[at : at + 2]) for at in range(0, len(words), 2)]
    return [
        "\n".join(f"{pair} {number * 977 + i}" for i, pair in enumerate(pairs[number % 5 :: 3]))
        for number in range(24)
    ]


def _json_lines() -> list[str]:
    def record(i: int) -> dict[str, Any]:
        return {
            "id": i,
            "state": "open" if i % 3 else "closed",
            "size": i * i % 9973,
            "owner": f"user-{i * 7 % 113}",
        }

    return ["\n".join(json.dumps(record(number * 100 + i)) for i in range(20)) for number in range(24)]


def _scripts() -> list[str]:
    alphabets = ("αβγδεζηθικλμν", "абвгдежзийклмн", "天地玄黄宇宙洪荒日月盈昃")

    def word(alphabet: str, n: int) -> str:
        return "".join(alphabet[n // 13**k % len(alphabet)] for k in range(4))

    return [
        " ".join(word(alphabet, number * 977 + i * 31) for i in range(60) for alphabet in alphabets)
        for number in range(1, 25)
    ]


def _logs() -> list[str]:
    def line(i: int) -> str:
        return f"2026-11-{1 + i % 28:02d} 12:{i % 60:02d}:{i % 47:02d} INFO worker {i % 9} finished task {i * 7}\n"

    return ["".join(line(number * 40 + i) for i in range(40)) for number in range(24)]


def _control(name: str, says: str, prepare: Prepare, **more: Any) -> Control:
    return Control(id=f"healthy.{name}", says=says, prepare=prepare, **more)


CONTROLS: tuple[Control, ...] = (
    _control("as-it-is", "the checkpoint as it is, in fp32", _with(), quick=True),
    _control("bf16", "computed in bf16", _with(dtype="bf16"), quick=True),
    _control("dtype-auto", "device and type left to the program", _with(device="auto", dtype="auto")),
    _control("one-thread", "one thread", _with(), num_threads=1),
    _control("two-threads", "two threads", _with(), num_threads=2),
    _control("three-threads", "three threads", _with(), num_threads=3),
    _control("batch-1", "batches of one window", _with(batch_size=1)),
    _control("batch-5", "batches of five windows", _with(batch_size=5)),
    _control("short", "windows of 16 tokens", _with(seq_length=16)),
    _control("long", "windows of 200 tokens", _with(seq_length=200)),
    _control("accumulation", "three micro-batches a step", _with(grad_accum=3)),
    _control("document-mask", "attention kept inside documents", _with(document_mask=True)),
    _control("other-seed", "another seed", _with(seed=7)),
    _control("constant", "a constant learning rate", _with(schedule="constant")),
    _control("no-warm-up", "no warm-up", _with(warmup_steps=0)),
    _control("long-warm-up", "a warm-up that outlasts the run", _with(warmup_steps=100)),
    _control("no-clipping", "no clipping", _with(grad_clip=0.0)),
    _control("no-decay", "no weight decay", _with(weight_decay=0.0)),
    _control("high-rate", "a learning rate of 1e-2 and other betas", _with(lr=1e-2, betas=(0.8, 0.99))),
    _control("no-steps", "no step at all", _with(num_steps=0, warmup_steps=0)),
    _control("from-scratch-mode", "the values of --mode from-scratch", _with(mode="from-scratch", warmup_steps=None)),
    _control("lora", "adapters beside queries, keys, values and outputs", _with(lora="r=4")),
    _control("lora-bf16", "adapters everywhere, in bf16",
             _with(lora="r=8,targets=q,k,v,o,gate,up,down", dtype="bf16")),
    _control("lora-strong", "an adapter of rank 1 and alpha 256", _with(lora="r=1,alpha=256,targets=v,up")),
    _control("lora-weak", "adapters of rank 32 and alpha 0.5", _with(lora="r=32,alpha=0.5,targets=q,down")),
    _control("frozen-embedding", "a frozen embedding", _with(freeze=("model.embed_tokens.weight",))),
    _control("frozen-block", "a frozen first block, in bf16", _with(freeze=("model.layers.0.*",), dtype="bf16"),
             quick=True),
    _control("norms-alone", "nothing but the norms trained", _with(freeze=("*_proj.*", "*embed*", "lm_hea[d].*"))),
    _control("renamed", "the file under another name", _renamed),
    _control("own-tokenizer", "the tokenizer as a folder of its own", _own_tokenizer),
    _control("no-reference", "a file without a reference", _without_reference,
             needs=lambda c: c.vocab_size > 1000),  # a toy with random weights knows no more than a table of counts
    _control("trained", "a checkpoint that a run of ours wrote", _trained),
    _control("imported", "imported from a Hugging Face folder", _imported()),
    _control("sharded", "imported from three weight files and an index", _imported(num_shards=3)),
    _control("stored-bf16", "stored in bf16", _imported(dtype=torch.bfloat16)),
    _control("stored-f16", "stored in f16", _imported(dtype=torch.float16)),
    _control("prose", "a corpus of mixed prose", _corpus(_prose)),
    _control("json-lines", "a corpus of JSON records", _corpus(_json_lines)),
    _control("scripts", "a corpus in Greek, Cyrillic and Chinese", _corpus(_scripts)),
    _control("logs", "a corpus of log lines", _corpus(_logs)),
    _control("many-shards", "many small shards", _corpus(_prose, shard_tokens=500)),
    _control("eos-between", "separators between documents only", _corpus(_prose, eos_policy="between")),
    _control("eos-none", "no separators", _corpus(_prose, eos_policy="none")),
    *(
        _control(f"small-{name}", f"a small random model: {name}", _small(name),
                 quick=name in ("llama-tied", "qwen2-untied"))
        for name in SMALL_CONFIGS
    ),
)  # fmt: skip
