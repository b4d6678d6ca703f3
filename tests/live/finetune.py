"""Fine-tune a real checkpoint on Python source, and print by how many standard errors its held-out loss fell.

FALSIFY-APR-PRETRAIN-INIT-FINETUNE-LIVE, whose runner this is, names every value; none has a default here. The
difference is taken window by window between the checkpoint and what the run made of it, both scored in fp32.

    python tests/live/finetune.py --checkpoint=model.apr --num-steps=20 --seq-length=32 --batch-size=1 --lr=1e-3 \
      --warmup-steps=2 --seed=42 --val-tokens=1024
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import torch

from apr.aprfile.reader import open_apr
from apr.base.environment import keep_freed_memory
from apr.convert.published import PUBLISHED, fetch_published
from apr.data.batches import evaluation_batches
from apr.data.shards import open_dataset
from apr.evals.loss import EvalLoss, evaluate_loss
from apr.model.adapters import loss_sum
from apr.model.load import load_decoder
from apr.train.ledger import paired_error
from apr.workflows.generating import generate_text

PROMPT = "def read_lines(path):\n"
SAMPLE_TOKENS = 48
CURVE_POINTS = 20
NO_MEMORY = '"APR606"'


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--checkpoint", required=True, help=f"an .apr file, or one of {', '.join(PUBLISHED)}")
    for name in ("num-steps", "seq-length", "batch-size", "warmup-steps", "seed", "val-tokens"):
        parser.add_argument(f"--{name}", required=True, type=int)
    parser.add_argument("--lr", required=True, type=float)
    return parser.parse_args()


def apr(*words: object) -> dict[str, Any]:
    """Run the real command line in a process of its own; its talk goes to stderr, and its refusal ends this one."""
    command = [sys.executable, "-m", "apr", *map(str, words), "--format", "json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if NO_MEMORY in done.stdout:
        print(done.stdout.strip(), file=sys.stderr)
        raise SystemExit(
            0
        )  # without a figure, which is no answer: a machine that is too small refutes nothing
    if done.returncode:
        raise SystemExit(f"apr {words[0]} ended with {done.returncode}: {done.stdout.strip()[-500:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def checkpoint_of(name: str, folder: Path) -> Path:
    """The .apr file, imported where a published checkpoint is named."""
    if name not in PUBLISHED:
        return Path(name)
    apr("import", fetch_published(name), "-o", folder / "model.apr")
    return folder / "model.apr"


def encoded(model: Path, folder: Path, seed: int) -> Path:
    """Shards of the modules of this Python's standard library; a tenth of the files is held out."""
    library = sysconfig.get_paths()["stdlib"]
    files = ("--corpus", library, "--glob", "*.py", "--tokenizer", model, "-o", folder / "shards")
    apr("tokenize", "encode-corpus", *files, "--val-fraction", "0.1", "--seed", seed)
    return folder / "shards"


def trained(model: Path, shards: Path, folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """The record of a run with exactly the values that were asked for."""
    names = ("num_steps", "seq_length", "batch_size", "warmup_steps", "seed", "val_tokens", "lr")
    values = [word for name in names for word in (f"--{name.replace('_', '-')}", getattr(asked, name))]
    where = ("--init", model, "--dataset", shards, "--run-dir", folder / "run", "--device", "cpu")
    return apr(
        "pretrain", *where, *values, "--mode", "finetune", "--steps-per-epoch", max(1, asked.num_steps)
    )


def scored(model: Path, shards: Path, asked: argparse.Namespace) -> EvalLoss:
    """The loss of each held-out window, in fp32."""
    windows = max(2, asked.val_tokens // asked.seq_length)
    held_out = open_dataset(shards / "val")
    with open_apr(model) as file:
        decoder = load_decoder(file, torch.device("cpu")).decoder
        batches = evaluation_batches(held_out, asked.seq_length, 1, windows)
        return evaluate_loss(loss_sum(decoder, torch.float32), (batch.scored for batch in batches))


def curve(run_dir: Path) -> list[float]:
    """The training loss, as means of equally many steps."""
    path = run_dir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    losses = [json.loads(line)["train_loss"] for line in lines]
    size = max(1, len(losses) // CURVE_POINTS)
    parts = [losses[at : at + size] for at in range(0, len(losses), size)]
    return [round(sum(part) / len(part), 4) for part in parts]


def measured(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The figure of the claim, and what a reader wants to see beside it."""
    model = checkpoint_of(asked.checkpoint, folder)
    shards = encoded(model, folder, asked.seed)
    record = trained(model, shards, folder, asked)
    after = folder / "run" / record["checkpoints"][-1]
    first, last = (scored(path, shards, asked) for path in (model, after))
    error = paired_error(first.sums, last.sums, last.num_tokens)
    return {
        "gain_in_standard_errors": (first.loss - last.loss) / error if error else 0.0,
        "loss_before": first.loss,
        "loss_after": last.loss,
        "standard_error_of_the_difference": error,
        "standard_error_of_the_loss_after": last.standard_error,
        "num_windows": last.num_sequences,
        "num_tokens": last.num_tokens,
        "steps": record["steps"],
        "outcome": record["outcome"],
        "grade": record["certificate"]["grade"],
        "seed": asked.seed,
        "step0": record["certificate"]["step0"],
        "inputs": json.loads((folder / "run" / "certificate.json").read_text())["inputs"],
        "tokens_per_sec": record.get("tokens_per_sec"),
        "train_loss": curve(folder / "run"),
        "sample_before": generate_text(model, PROMPT, max_new_tokens=SAMPLE_TOKENS)["text"],
        "sample_after": generate_text(after, PROMPT, max_new_tokens=SAMPLE_TOKENS)["text"],
    }


def main() -> None:
    keep_freed_memory()  # as `apr pretrain` does; a chunk of logits that is mapped anew each time is most of the work
    with tempfile.TemporaryDirectory(prefix="apr-finetune-") as folder:
        text = json.dumps(measured(arguments(), Path(folder)))
    if told := os.environ.get("PV_REPORT"):  # what is put there becomes part of the evidence
        with Path(told).open("a") as stream:
            stream.write(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
