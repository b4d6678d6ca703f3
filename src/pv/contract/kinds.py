"""Blocks that belong to one kind of contract: `beat` (beat-benchmark) and the record of a `kaizen`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pv.contract.fields import Fields
from pv.contract.located import Located
from pv.tree.nodes import Block, Node, Scalar
from pv.tree.scalars import number


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat(Located):
    """A threshold that a measured figure must pass to beat an incumbent."""

    pillar: str | None
    incumbent: str | None
    incumbent_pinned: str | None
    canonical_task: str | None
    metric: str | None
    direction: str | None
    baseline_value: float | None
    baseline_floor: float | None
    beat_threshold: float | None
    baseline_sourced_date: str | None
    approved_compute: str | None
    ci_gate_name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kaizen:
    """A small improvement: which figures were there, and which are aimed at."""

    contract: str | None
    record: Node | None  # `kaizen:`
    status: str | None
    baseline: Mapping[str, float]
    target: Mapping[str, float]
    invariants: Node | None
    title: str | None
    parent: str | None


def read_beat(f: Fields) -> Beat:
    """The beat block. Words are text here, because rules and not the parser judge them."""
    return Beat(
        pillar=f.optional_text("pillar"),
        incumbent=f.optional_text("incumbent"),
        incumbent_pinned=f.optional_text("incumbent_pinned"),
        canonical_task=f.optional_text("canonical_task"),
        metric=f.optional_text("metric"),
        direction=f.optional_text("direction"),
        baseline_value=f.number("baseline_value"),
        baseline_floor=f.number("baseline_floor"),
        beat_threshold=f.number("beat_threshold"),
        baseline_sourced_date=f.optional_text("baseline_sourced_date"),
        approved_compute=f.optional_text("approved_compute"),
        ci_gate_name=f.optional_text("ci_gate_name"),
        **f.located(),
    )


def read_kaizen(f: Fields) -> Kaizen:
    """The record of a kaizen, whose keys stand at the top of the file.

    Args:
        f: the fields of the contract.
    """
    for name in ("date", "title", "parent"):
        f.take(name)
    return Kaizen(
        contract=f.optional_text("contract"),
        record=f.take("kaizen"),
        status=f.optional_text("status"),
        baseline=_figures(f.take("baseline")),
        target=_figures(f.take("target")),
        invariants=f.take("invariants"),
        title=_text(f.node.get("title")),
        parent=_text(f.node.get("parent")),
    )


def _text(node: Node | None) -> str | None:
    return node.text if isinstance(node, Scalar) else None


def _figures(node: Node | None) -> dict[str, float]:
    """The numbers of a mapping from metrics."""
    if not isinstance(node, Block):
        return {}
    read = {entry.key.text: number(entry.value) for entry in node.entries if isinstance(entry.value, Scalar)}
    return {metric: value for metric, value in read.items() if value is not None}
