"""`make scoreboard`: plant every fault of a source folder before every loader, into docs/scoreboard.md.

The peers run in an environment of their own, PEERS/bin/python, a process each; ours in the one that runs this.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from apr.arch.config import TransformerConfig
from apr.base.files import sha256_file
from apr.convert.source import open_source
from apr.stepzero.faults.fault import Fault
from apr.stepzero.faults.source import SOURCE_FAULTS
from bench.scoreboard.loaders import LOADERS
from bench.scoreboard.model import VOCAB_SIZE, held_out, make_models
from bench.scoreboard.page import page

RESULT = Path(__file__).parents[1] / "results" / "scoreboard.json"
PAGE = Path(__file__).parents[2] / "docs" / "scoreboard.md"
HARM = 0.01  # nats: ten times what two implementations may differ by, a tenth of what a tuner would notice
NUM_TEXTS = 16
# Where the first model cannot show it: it has no biases to lose, and its class knows no window.
_SHOWN_BY = {
    "source.family-changed": "qwen2",
    "source.class-contradicted": "qwen2",
    "source.sliding-window": "qwen2",
    "source.rope-scaling-unsupported": "qwen2",
}


def model_for(fault: Fault, configs: dict[str, TransformerConfig]) -> str:
    """The model that a fault is planted in."""
    able = [name for name, config in configs.items() if fault.needs is None or fault.needs(config)]
    return _SHOWN_BY.get(fault.id, able[0])


def write_manifest(folder: Path) -> None:
    """Write beside a folder what sha256sum prints in it."""
    lines = [f"{sha256_file(path)}  {path.name}\n" for path in sorted(folder.iterdir())]
    folder.with_name(f"{folder.name}.sha256").write_text("".join(lines), encoding="utf-8")


def planted(fault: Fault, healthy: Path, folder: Path) -> Path:
    """A copy of a healthy folder with the fault in it; the files that it does not touch are links."""
    assert fault.edit is not None
    shutil.copytree(healthy, folder, copy_function=os.link)
    fault.edit(folder)
    return folder


def run_loader(name: str, python: str, jobs: Path) -> dict[str, Any]:
    """Run a loader over all folders; what it answers is on the last line."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "warning",
    }
    command = [python, "-m", "bench.scoreboard.loaders", name, str(jobs)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout.strip().splitlines()[-1])


def judge(found: dict[str, Any], healthy: dict[str, Any], work: Path) -> dict[str, Any]:
    """One cell: refused, warned, silent, or same where the run would start from the healthy loss."""
    said = [_plain(line, work) for line in found["said"]]
    usual = {re.sub(r"\d+", "#", _plain(line, work)) for line in healthy["said"]}
    new = [line for line in dict.fromkeys(said) if re.sub(r"\d+", "#", line) not in usual]
    cell = {"verdict": found["outcome"], "loss": None, "error": None, "warnings": new[:5]}
    if found["outcome"] != "accepted":
        return cell | {"error": _plain(found["error"], work)}
    if found["nats"] is None:  # not a number
        return cell | {"verdict": "warned" if new else "silent"}
    loss = found["nats"] / healthy["num_predictions"]
    harmed = abs(loss - healthy["nats"] / healthy["num_predictions"]) > HARM
    verdict = ("warned" if new else "silent") if harmed else "same"
    return cell | {"loss": round(loss, 4), "verdict": verdict}


def _plain(text: str, work: Path) -> str:
    """Without the places of this run."""
    text = re.sub(rf"{re.escape(str(work))}/loads/[^/]+/[^/]+/", "", text)
    return text.replace(f"{work}/models/", "")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scoreboard", description=__doc__)
    parser.add_argument("--peers", type=Path, required=True, help="the environment of the other loaders")
    parser.add_argument("--models", type=Path, help="keep the two models here, or take them from here")
    parser.add_argument("--only", nargs="+", help="ids of faults, to try them; nothing is written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="apr-scoreboard-") as place:
        board = make_board(Path(place), options.peers, options.models, options.only)
    if options.only:
        print(json.dumps(board, indent=2))
        return 0
    RESULT.write_text(json.dumps(board, indent=2) + "\n", encoding="utf-8")
    PAGE.write_text(page(board), encoding="utf-8")
    print(page(board).partition("## Fault by")[0])
    return 0


def make_board(work: Path, peers: Path, kept: Path | None, only: list[str] | None) -> dict[str, Any]:
    """Train, plant, load and judge; returns the board as JSON values."""
    print("training two small models", file=sys.stderr)
    models = _models(work, kept)
    configs = {name: open_source(str(folder)).config for name, folder in models.items()}
    faults = [fault for fault in SOURCE_FAULTS if not only or fault.id in only]
    homes = {fault.id: model_for(fault, configs) for fault in faults}
    jobs = [{"id": name, "folder": str(folder), "healthy": str(folder)} for name, folder in models.items()]
    for fault in faults:
        healthy = models[homes[fault.id]]
        folder = planted(fault, healthy, work / "planted" / fault.id)
        jobs.append({"id": fault.id, "folder": str(folder), "healthy": str(healthy)})
    asked = {"work": str(work / "loads"), "texts": held_out(NUM_TEXTS), "jobs": jobs}
    (work / "jobs.json").write_text(json.dumps(asked), encoding="utf-8")
    answers = {}
    for name in LOADERS:
        print(name, file=sys.stderr)
        python = sys.executable if name.startswith("apr") else str(peers / "bin" / "python")
        answers[name] = run_loader(name, python, work / "jobs.json")
    return {
        "harm_from_nats": HARM,
        "vocab_size": VOCAB_SIZE,
        "versions": {name: answer["versions"] for name, answer in answers.items()},
        "healthy": {name: _healthy(answer["results"], models) for name, answer in answers.items()},
        "faults": [_row(fault, homes[fault.id], answers, work) for fault in faults],
    }


def _models(work: Path, kept: Path | None) -> dict[str, Path]:
    folder = work / "models"
    if kept is None or not kept.is_dir():
        models = make_models(folder)
        if kept is not None:
            shutil.copytree(folder, kept)
    else:
        shutil.copytree(kept, folder)
        models = {path.name: path for path in sorted(folder.iterdir()) if path.is_dir()}
    for path in models.values():
        write_manifest(path)
    return models


def _healthy(results: dict[str, Any], models: dict[str, Path]) -> dict[str, float]:
    """The loss of each healthy model by one loader; a loader that does not take them judges nothing."""
    losses = {}
    for name in models:
        found = results[name]
        if found["outcome"] != "accepted":
            raise SystemExit(f"the healthy {name} is {found['outcome']}: {found['error']}")
        losses[name] = round(found["nats"] / found["num_predictions"], 4)
    return losses


def _row(fault: Fault, home: str, answers: dict[str, Any], work: Path) -> dict[str, Any]:
    cells = {}
    for name, answer in answers.items():
        results = answer["results"]
        cells[name] = judge(results[fault.id], results[home], work)
    return {
        "id": fault.id,
        "says": fault.says,
        "gate": fault.gate,
        "imitates": list(fault.imitates),
        "model": home,
        "loaders": cells,
    }


if __name__ == "__main__":
    sys.exit(main())
