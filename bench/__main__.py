"""`make bench`: every figure with its bar, into bench/results/."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

from apr.base.environment import cache_dir, cpu_count, cpu_flags, versions
from apr.convert.published import fetch_published
from bench import engines, load, step
from bench.turns import ratios, spread, take_turns

RESULTS = Path(__file__).parent / "results"
MATCH = 0.02  # nats: two bf16 forward passes of the same weights on the same tokens


def prepared(name: str, dtype: str) -> tuple[Path, Path]:
    """The GGUF file and its .apr, made once in the cache."""
    gguf = fetch_published(name)
    model = cache_dir() / "bench" / f"{gguf.stem}-{dtype}.apr"
    if not model.exists():
        command = [sys.executable, "-m", "apr", "import", str(gguf), "-o", str(model), "--dtype", dtype]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return gguf, model


def bench_load(rounds: int) -> dict[str, Any]:
    gguf, model = prepared("qwen2.5-coder-0.5b-instruct", "bf16")
    reports = take_turns("bench.load", [str(model), str(gguf)], rounds)
    return _figure(load.CLAIM, load.BAR, reports)


def bench_step(rounds: int) -> dict[str, Any]:
    _, model = prepared("smollm2-135m-instruct", "keep")
    reports = take_turns("bench.step", [str(model)], rounds)
    figure = _figure(step.CLAIM, step.BAR, reports)
    pairs = zip(reports["ours"][0]["losses"], reports["theirs"][0]["losses"], strict=True)
    figure["greatest_loss_difference"] = max(abs(a - b) for a, b in pairs)
    # A figure counts only when both sides computed the same thing.
    figure["losses_match"] = figure["greatest_loss_difference"] <= MATCH
    figure["holds"] = figure["holds"] and figure["losses_match"]
    return figure


def bench_encode(name: str, glob: str, *folders: Path) -> Callable[[int], dict[str, Any]]:
    def measure(rounds: int) -> dict[str, Any]:
        _, model = prepared(name, "keep")
        present = [str(folder) for folder in folders if folder.is_dir()]
        reports = take_turns("bench.engines", [str(model), glob, *present], rounds)
        figure = _figure(engines.CLAIM, engines.BAR, reports)
        # Two digests that differ are two corpora encoded, and no figure.
        figure["ids_match"] = len({report["ids"] for kept in reports.values() for report in kept}) == 1
        figure["holds"] = (
            figure["holds"] and figure["ids_match"] and figure["peak_mb"]["ours"] <= engines.MAX_PEAK_MB
        )
        return figure

    return measure


_SOURCE = Path(sysconfig.get_paths()["stdlib"])
_MIXED = tuple(Path("/usr/share") / name for name in ("doc", "i18n", "mime", "perl", "metainfo", "vim"))
FIGURES = {
    "load": bench_load,
    "step": bench_step,
    "encode-smollm2": bench_encode("smollm2-135m-instruct", "**/*.py", _SOURCE),
    "encode-qwen": bench_encode("qwen2.5-coder-0.5b-instruct", "**/*.py", _SOURCE),
    "encode-mixed-smollm2": bench_encode("smollm2-135m-instruct", "**/*", *_MIXED),
    "encode-mixed-qwen": bench_encode("qwen2.5-coder-0.5b-instruct", "**/*", *_MIXED),
}


def _figure(claim: str, bar: dict[str, float], reports: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    ratio = ratios(reports, "seconds")
    seconds = {side: spread([report["seconds"] for report in kept]) for side, kept in reports.items()}
    holds = ratio["median"] >= bar["ratio"]
    if "ours_seconds" in bar:
        holds = holds and seconds["ours"]["median"] <= bar["ours_seconds"]
    peak = {side: max(report["peak_mb"] for report in kept) for side, kept in reports.items()}
    return {
        "claim": claim,
        "bar": bar,
        "holds": holds,
        "ratio": ratio,
        "seconds": seconds,
        "peak_mb": peak,
        "rounds": reports,
    }


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": cpu_count(),
        "bf16": sorted(cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"}),
        "versions": versions("torch", "transformers", "tokenizers", "fastokens", "gguf", "numpy"),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=list(FIGURES))
    options = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    all_hold = True
    for name in [options.only] if options.only else FIGURES:
        print(f"{name}: {options.rounds} rounds in turn, nothing else should run", file=sys.stderr)
        figure = FIGURES[name](options.rounds)
        (RESULTS / f"{name}.json").write_text(json.dumps({**figure, "machine": machine()}, indent=2) + "\n")
        ours, theirs = figure["seconds"]["ours"]["median"], figure["seconds"]["theirs"]["median"]
        low, middle, high = (figure["ratio"][key] for key in ("min", "median", "max"))
        word = "holds" if figure["holds"] else "DOES NOT HOLD"
        print(
            f"{name}: ours {ours:.3f} s, theirs {theirs:.3f} s, ratio {middle:.2f} ({low:.2f} to {high:.2f}),"
        )
        print(f"  bar {figure['bar']}: {word}")
        all_hold = all_hold and figure["holds"]
    return 0 if all_hold else 1


if __name__ == "__main__":
    sys.exit(main())
