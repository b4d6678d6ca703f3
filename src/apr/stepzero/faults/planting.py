"""How a fault of a source folder is written down: one line each, in the module of its kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from apr.stepzero.faults.fault import Fault

# Who must refuse it. `trust`: the folder is well formed and nothing in it contradicts the rest, so that only a
# digest from outside (`apr import --manifest`) can tell it from the published one.
Gate = Literal["files", "tensors", "config", "tokenizer", "trust"]


def source_fault(
    gate: Gate,
    name: str,
    says: str,
    edit: Callable[[Path], None],
    *imitates: str,
    quick: bool = False,
    needs: Callable[[Any], bool] | None = None,
) -> Fault:
    """A fault `source.NAME` that an edit of a Hugging Face folder plants.

    Args:
        gate: who must refuse it.
        name: the defect.
        says: what is planted, one clause in the past tense.
        edit: spoils the folder.
        imitates: entries of the catalogue.
        quick: whether `apr falsify --quick` plants it.
        needs: whether a config can carry it; None for every one.
    """
    return Fault(
        id=f"source.{name}",
        imitates=imitates,
        place="source folder",
        gate=f"source.{gate}",
        says=says,
        edit=edit,
        quick=quick,
        needs=needs,
    )
