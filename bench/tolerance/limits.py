"""From figures to limits: the rule, and what falls under it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from apr.stepzero.reference import BLOCK_TOLERANCE, LOSS_TOLERANCE, TRAINING_TOLERANCE

FIGURES = {
    "loss": "mean loss",
    "token_loss_max": "greatest loss of one token",
    "token_loss_rms": "loss per token, root mean square",
    "block": "block figures (mean, std, absmax, 4 projections)",
    "projections": "64 projections in place of 4",
    "row_projections": "64 projections of rows scaled to unit size",
    "row_projections_4": "4 projections of rows scaled to unit size",
    "last_row_values": "one projection of each position, after the final norm only (T values)",
    "row_sizes": "size of each position (T a block)",
    "row_values": "one projection of each position (T a block)",
    "state": "the whole state (T x D a block), root mean square",
}
TODAY = ("loss", "block")
SHARPER = ("token_loss_rms", "row_projections")
MARGIN = 10.0  # asked for on both sides of a limit
# What step zero refuses by.
IN_FORCE = {
    ("fp32", "loss"): LOSS_TOLERANCE,
    ("fp32", "block"): BLOCK_TOLERANCE,
    ("bf16", "loss"): TRAINING_TOLERANCE["bf16"],
}
Results = Mapping[str, Any]


def number(value: float | None) -> float:
    """What is no number differs without bound."""
    return math.inf if value is None else value


def noise_passes(model: Mapping[str, Any], dtype: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Every pass of a dtype that computes the right thing: (stored dtype or processor, way, figures)."""
    for key, passes in model["noise"].items():
        kind, _, stored = key.partition(", ")
        if kind == dtype or (kind == "references" and dtype == "fp32"):
            label = "reference recorded: " if kind == "references" else ""
            yield from ((stored, label + way, apart) for way, apart in passes.items())
    for processor, passes in model.get("processors", {}).items():
        for way, apart in passes.items():
            if way.partition(",")[0] == dtype:
                yield processor, way, apart


def noise(results: Results, dtype: str, figure: str) -> float:
    """The largest noise of a figure over all models and passes."""
    return max(noise_at(model, dtype, figure)[0] for model in results["models"].values())


def noise_at(model: Mapping[str, Any], dtype: str, figure: str) -> tuple[float, str]:
    """The largest noise of a figure on one model, and where it arose."""
    found = []
    for where, way, apart in noise_passes(model, dtype):
        value = number(apart[figure])
        if figure in TODAY:
            value = max(value, apart.get(f"{figure}_of_any_reference", 0.0))
        found.append((value, f"{way} ({where})"))
    return max(found, key=lambda each: each[0])  # of equal ones the first


def derived(results: Results, dtype: str, figure: str) -> float:
    """Ten times the largest noise, rounded up to two digits."""
    value = MARGIN * noise(results, dtype, figure)
    digit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / digit - 1e-6) * digit:.2g}")


def limit(results: Results, dtype: str, figure: str) -> float:
    """The limit in force; for a figure that has none, the derived one."""
    return IN_FORCE.get((dtype, figure)) or derived(results, dtype, figure)


def fault_names(results: Results, kind: str | None = None) -> list[str]:
    """Faults measured on any model, of one kind or of all, without those that are none in exact arithmetic."""
    names: dict[str, None] = {}
    for model in results["models"].values():
        for name, fault in model.get("faults", {}).items():
            if not fault["harmless"] and kind in (None, fault["kind"]):
                names[name] = None
    return list(names)


def kind_of(results: Results, name: str) -> str:
    return next(m["faults"][name]["kind"] for m in results["models"].values() if name in m["faults"])


def strength(results: Results, name: str, figure: str, dtype: str = "fp32") -> float:
    """A fault's figure on the model where it shows least."""
    found = [
        number(m["faults"][name][dtype][figure]) for m in results["models"].values() if name in m["faults"]
    ]
    return min(found)


def excess(results: Results, name: str, limits: Mapping[str, float], dtype: str = "fp32") -> float:
    """How many times a fault exceeds the limit that it exceeds most, on the model where that is least."""
    per_model = []
    for model in results["models"].values():
        if name in model["faults"]:
            figures = model["faults"][name][dtype]
            per_model.append(max(number(figures[key]) / value for key, value in limits.items()))
    return min(per_model)


def first_over(apart: Mapping[str, Any], value: float, num_layers: int) -> str:
    """The first block whose figures exceed a limit."""
    names = ["emb", *map(str, range(num_layers)), "norm"]
    return next((name for name, gap in zip(names, apart["blocks"], strict=True) if number(gap) > value), "-")
